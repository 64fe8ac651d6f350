"""Figures as PNG: training curves of pretraining and fine-tuning, histograms of variant scores, trials of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genolm.metrics.format import TITLES
from genolm.reports.svg import INK, QUIET, RULE, TONES, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAINING, _HELD_OUT, _FLOOR = TONES[:3]
_POINTS: dict[str, Any] = {"linewidth": 2, "marker": "o", "markersize": 4}
_LEARNING_METRICS = {"mcc": 0, "auroc": 1, "auprc": 2, "r2": 0, "spearman": 4, "pearson": 3}
"""Metrics that are 1 at best → colour, in the order of the legend."""


def new_panels(num_rows: int, num_columns: int, width: float, height: float, **options) -> "tuple[Figure, list[Axes]]":
    """Return a figure and its panels without frames; sizes of a panel in inches."""
    figure = new_figure(72 * width * num_columns, 72 * height * num_rows, layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, **options).ravel().tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def loss_curve(
    log: Sequence[dict[str, Any]],
    out_png: str | Path,
    objective: str,
    baselines: dict[str, float] | None = None,
    floor: float | None = None,
) -> None:
    """Draw bits per base against the training step, with the best Markov model and the floor.

    Args:
        log: rows of `log.jsonl`. A row with `step` and `bits_per_base` (`masked_bits_per_base` for a masked model) is a
            point of the training curve; with `eval_` before that name, of the held-out curve. Other rows are skipped.
        out_png: file to write.
        objective: `causal` or `masked`; only bits of the former are a likelihood.
        baselines: Markov order → bits per base; the best one is drawn.
        floor: bits per base that no model can go below, if it is known.

    Raises:
        ValueError: objective is neither `causal` nor `masked`.
    """
    if objective not in ("causal", "masked"):
        raise ValueError(f"objective is {objective!r}; allowed: causal, masked")
    causal = objective == "causal"
    key = "bits_per_base" if causal else "masked_bits_per_base"
    figure, (axes,) = new_panels(1, 1, 7.2, 4.4)
    # Training hides a fraction of the bases at once, evaluation every base.
    label = "training" if causal else "training (some bases hidden)"
    bits = _draw_training(axes, log, key, label)
    held_out_steps, held_out = series(log, f"eval_{key}")
    if len(held_out_steps):
        label = f"held out: {held_out[-1]:.3f} at the end"
        axes.plot(held_out_steps, held_out, color=_HELD_OUT, label=label, **_POINTS)
    lines = []
    if baselines:
        order = min(baselines, key=lambda name: baselines[name])
        lines.append((baselines[order], QUIET, "--", f"best Markov model, order {order}: {baselines[order]:.3f}"))
    if floor is not None:
        lines.append((floor, _FLOOR, ":", f"floor: {floor:.3f}"))
    for value, colour, style, label in lines:
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.6, label=label)
    _limit_height(axes, np.concatenate([bits, held_out]), [line[0] for line in lines])
    unit = "bits per base" if causal else "bits per masked base (not a likelihood)"
    axes.set(xlabel="training step", ylabel=unit, title=f"{'B' if causal else 'Masked b'}its per base during training")
    _legend_above(axes)
    save_png(figure, out_png)


def learning_curve(log: Sequence[dict[str, Any]], out_png: str | Path) -> None:
    """Draw the losses of a fine-tuning run against the training step, and below them its held-out metrics.

    Args:
        log: rows of `log.jsonl`. A row with `step` and `loss` is a point of the training curve, with `eval_loss` of the
            held-out one; `eval_` before the name of a metric that is 1 at best gives its curve. Other rows are skipped.
        out_png: file to write.
    """
    curves = {key: series(log, f"eval_{key}") for key in _LEARNING_METRICS}
    curves = {key: points for key, points in curves.items() if len(points[0])}
    figure, panels = new_panels(2 if curves else 1, 1, 7.2, 3.4 if curves else 4.0, sharex=True)
    _draw_training(panels[0], log, "loss", "training")
    steps, loss = series(log, "eval_loss")
    if len(steps):
        label = f"held out: {loss.min():.3f} at best, step {steps[loss.argmin()]:g}"
        panels[0].plot(steps, loss, color=_HELD_OUT, label=label, **_POINTS)
    panels[0].set_ylabel("loss")
    for key, (steps, values) in curves.items():
        label = f"{TITLES[key]}: {values.max():.3f} at best, step {steps[values.argmax()]:g}"
        panels[1].plot(steps, values, color=TONES[_LEARNING_METRICS[key]], label=label, **_POINTS)
        panels[1].set_ylabel("held-out metrics")
    panels[-1].set_xlabel("training step")
    for axes in panels:
        _legend_above(axes)
    save_png(figure, out_png)


def score_histogram(parts: Sequence[tuple[np.ndarray, np.ndarray]], name: str, out_png: str | Path) -> None:
    """Draw the distribution of variant scores: substitutions, insertions and deletions separately.

    Args:
        parts: (n,) scores, NaN where not scored, and (n,) length changes, positive for insertions.
        name: of the score, such as `masked_llr`.
        out_png: file to write.
    """
    values = np.concatenate([np.zeros(0), *(scores for scores, _ in parts)])
    lengths = np.concatenate([np.zeros(0, int), *(lengths for _, lengths in parts)])
    scored = np.isfinite(values)
    figure, (axes,) = new_panels(1, 1, 7.2, 4.0)
    if scored.any():
        low, high = np.quantile(values[scored], [0.001, 0.999])
        edges = np.linspace(low, high if high > low else low + 1, 81)
        kinds = (("substitutions", lengths == 0), ("insertions", lengths > 0), ("deletions", lengths < 0))
        for (label, rows), colour in zip(kinds, (TONES[0], TONES[2], TONES[1]), strict=True):
            shown = values[scored & rows]
            if len(shown):
                axes.hist(np.clip(shown, low, high), edges, color=colour, alpha=0.55, label=f"{label}: {len(shown):,}")
    else:
        axes.text(0.5, 0.5, "nothing was scored", ha="center", transform=axes.transAxes)
    axes.axvline(0, color=QUIET, linewidth=1)
    label = name.replace("_", " ").replace("llr", "LLR")
    unit = ", nats" if "llr" in name or name == "likelihood" else ""
    axes.set(xlabel=label + unit, ylabel="number of alternative alleles")
    axes.set_title(f"{label} of {scored.sum():,} alternative alleles")
    _legend_above(axes)
    save_png(figure, out_png)


def running_mean(values: np.ndarray, fraction: float = 0.05) -> np.ndarray:
    """Average each value with those before it, over about a fraction of all; shape (n,) in, shape (n,) out."""
    width = max(round(len(values) * fraction), 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def series(log: Sequence[dict[str, Any]], key: str, against: str = "step") -> tuple[np.ndarray, np.ndarray]:
    """Return the x (n,) and finite y (n,) values of a key, from rows that have both."""
    points = [(row[against], row[key]) for row in log if against in row and row.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table[:, 1])]
    return table[:, 0], table[:, 1]


def _draw_training(axes: "Axes", log: Sequence[dict[str, Any]], key: str, label: str) -> np.ndarray:
    """Draw a training curve, pale, and its running mean; return the values."""
    steps, values = series(log, key)
    if len(steps):
        axes.plot(steps, values, color=_TRAINING, alpha=0.25, linewidth=1, marker="." if len(steps) == 1 else None)
        label = f"{label}: {values[-1]:.3f} at the end"
        axes.plot(steps, running_mean(values), color=_TRAINING, linewidth=2, label=label)
    return values


def _limit_height(axes: "Axes", bits: np.ndarray, lines: list[float]) -> None:
    """Show all but the first steep fall, which would flatten the rest."""
    shown = np.concatenate([bits, lines])
    if not len(shown):
        return
    top = max([float(np.quantile(bits, 0.97)), *lines] if len(bits) else lines)
    bottom = float(shown.min())
    margin = max(0.05 * (top - bottom), 0.005)
    axes.set_ylim(bottom - margin, top + margin)


def _legend_above(axes: "Axes") -> None:
    """Put the legend between the title and the plot, where it covers nothing."""
    num_entries = len(axes.get_legend_handles_labels()[0])
    if num_entries:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(frameon=False, ncols=2 if num_entries > 1 else 1, fontsize=9, labelcolor=INK, **place)
        if axes.get_title():
            axes.set_title(axes.get_title(), pad=10 + 15 * ((num_entries + 1) // 2))


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
