"""Sweep as PNG: the value against the trial, and against each parameter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genolm.reports.figures import new_panels
from genolm.reports.svg import QUIET, TONES, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRIAL, _BEST = TONES[:2]


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
        values: one for each trial, None where it failed.
        parameters: name → one value for each trial; strings and lists are drawn as categories, in order of appearance.
        out_png: file to write.
        metric: name of the values.
        lower_is_better: the least value is the best.
        logarithmic: parameters with a logarithmic axis.
    """
    measured = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    columns = min(3, len(parameters) + 1)
    figure, panels = new_panels(-(-(len(parameters) + 1) // columns), columns, 3.6, 3.0, sharey=True)
    best = None
    if np.isfinite(measured).any():
        best = int(np.nanargmin(measured) if lower_is_better else np.nanargmax(measured))
    _draw_trials(panels[0], measured, best, lower_is_better)
    for axes, (name, chosen) in zip(panels[1:], parameters.items(), strict=False):
        _draw_points(axes, _place_values(axes, chosen, name in logarithmic), measured, best)
        axes.set_xlabel(name)
    for axes in panels[len(parameters) + 1 :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel(f"{metric} on the valid rows")
    save_png(figure, out_png)


def _draw_trials(axes: "Axes", measured: np.ndarray, best: int | None, lower_is_better: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    trials, failed = np.arange(len(measured)), np.isnan(measured)
    _draw_points(axes, trials, measured, best)
    if best is not None:
        filled = np.where(failed, np.inf if lower_is_better else -np.inf, measured)
        so_far = np.minimum.accumulate(filled) if lower_is_better else np.maximum.accumulate(filled)
        first = int(np.flatnonzero(~failed)[0])
        axes.step(
            trials[first:], so_far[first:], where="post", color=_BEST, linewidth=1.6, zorder=1, label="best so far"
        )
        if failed.any():
            bottom = np.full(failed.sum(), np.nanmin(measured))
            axes.scatter(trials[failed], bottom, marker="x", color=QUIET, label="failed")
        axes.legend(frameon=False, loc="best", fontsize=8)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _place_values(axes: "Axes", chosen: Sequence[Any], logarithmic: bool) -> np.ndarray:
    """Set the axis of a parameter and return the place of each value on it."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in chosen):
        names = list(dict.fromkeys(map(str, chosen)))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return np.array([names.index(str(value)) for value in chosen], dtype=np.float64)
    values = np.array(chosen, dtype=np.float64)
    if logarithmic:
        axes.set_xscale("log")
        decades = np.log10(values.max() / values.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 3.0), numticks=6))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif all(isinstance(value, int) for value in chosen):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return values


def _draw_points(axes: "Axes", places: np.ndarray, values: np.ndarray, best: int | None) -> None:
    axes.scatter(places, values, s=22, color=_TRIAL, alpha=0.6, linewidths=0, zorder=2)
    if best is not None:
        axes.scatter(places[best], values[best], s=60, color=_BEST, zorder=3)
