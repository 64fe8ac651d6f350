"""A sweep as a picture: the value against the trial, and against each parameter that was searched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's palette, as in figures.py.
_TRIAL, _BEST, _FAILED = "#0072B2", "#D55E00", "#666666"


def sweep_figure(
    values: Sequence[float | None],
    parameters: Mapping[str, Sequence[Any]],
    out_png: str | Path,
    metric: str,
    lower_is_better: bool = False,
    logarithmic: Sequence[str] = (),
) -> None:
    """Draw the value of every trial.

    Args:
        values: one a trial, None where it failed.
        parameters: name → one value a trial; texts and lists are drawn as categories, in the order they are met.
        out_png: file to write.
        metric: what the values are.
        lower_is_better: the least value is the best.
        logarithmic: parameters with a logarithmic axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    known = np.isfinite(found)
    columns = min(3, len(parameters) + 1)
    rows = -(-(len(parameters) + 1) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    best = None
    if known.any():
        best = int(np.nanargmin(found) if lower_is_better else np.nanargmax(found))
    trials = np.arange(len(found))
    _points(panels[0], trials, found, best)
    if best is not None:
        filled = np.where(known, found, np.inf if lower_is_better else -np.inf)
        so_far = np.minimum.accumulate(filled) if lower_is_better else np.maximum.accumulate(filled)
        first = int(np.flatnonzero(known)[0])
        panels[0].step(trials[first:], so_far[first:], where="post", color=_BEST, linewidth=1.6, zorder=1)
        bottom = np.nanmin(found)
        panels[0].scatter(trials[~known], np.full((~known).sum(), bottom), marker="x", color=_FAILED, label="failed")
        if not known.all():
            panels[0].legend(frameon=False, loc="lower right")
    panels[0].set_xlabel("trial")
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    for axes, (name, chosen) in zip(panels[1:], parameters.items(), strict=False):
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in chosen)
        if numbers:
            places = np.array(chosen, dtype=np.float64)
        else:
            names = list(dict.fromkeys(str(value) for value in chosen))
            places = np.array([names.index(str(value)) for value in chosen], dtype=np.float64)
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        if name in logarithmic:
            axes.set_xscale("log")
        _points(axes, places, found, best)
        axes.set_xlabel(name)
    for number, axes in enumerate(panels):
        axes.set_visible(number <= len(parameters))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if number % columns == 0:
            axes.set_ylabel(f"{metric} on the valid rows")
    figure.savefig(out_png)


def _points(axes, places: np.ndarray, values: np.ndarray, best: int | None) -> None:
    axes.scatter(places, values, s=22, color=_TRIAL, alpha=0.6, linewidths=0, zorder=2)
    if best is not None:
        axes.scatter(places[best], values[best], s=60, color=_BEST, zorder=3)
