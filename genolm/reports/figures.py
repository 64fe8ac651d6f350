"""Figures of a run, drawn without a display. matplotlib is imported only when a figure is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey.
_TRAIN, _HELD_OUT, _BASELINE, _FLOOR = "#0072B2", "#D55E00", "#666666", "#009E73"
_METRIC_COLOURS = {
    "mcc": "#0072B2",
    "auroc": "#D55E00",
    "auprc": "#009E73",
    "r2": "#0072B2",
    "spearman": "#E69F00",
    "pearson": "#CC79A7",
}


def loss_curve(
    log: Sequence[dict[str, Any]],
    out_png: str | Path,
    objective: str,
    baselines: dict[str, float] | None = None,
    floor: float | None = None,
) -> None:
    """Draw bits per base against the training step, beside what k-mer counts reach.

    Args:
        log: rows of `log.jsonl`. A row with `step` and `bits_per_base` (`masked_bits_per_base` for a masked model) is a
            point of the training curve; with `eval_` before that name, of the held-out curve. Other rows are skipped.
        out_png: file to write.
        objective: `causal` or `masked`; only the former's bits are a likelihood.
        baselines: Markov order → bits per base; the best one is drawn.
        floor: bits per base that no model can go below, where it is known.

    Raises:
        ValueError: objective is neither `causal` nor `masked`.
    """
    if objective not in ("causal", "masked"):
        raise ValueError(f"objective is {objective!r}; allowed: causal, masked")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    key = "bits_per_base" if objective == "causal" else "masked_bits_per_base"
    # A Figure of its own, not pyplot's: no global state, and the caller's backend stays as it is.
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, bits = series(log, key)
    # A masked model is trained on bases of which some are shown, and measured on bases that are all hidden.
    training = "training" if objective == "causal" else "training, not all hidden"
    if len(steps):
        axes.plot(steps, bits, color=_TRAIN, alpha=0.25, linewidth=1, marker="." if len(steps) == 1 else None)
        axes.plot(steps, running_mean(bits), color=_TRAIN, linewidth=2, label=f"{training}: {bits[-1]:.3f} at the end")
    held_out_steps, held_out = series(log, f"eval_{key}")
    if len(held_out_steps):
        label = f"held out: {held_out[-1]:.3f} at the end"
        axes.plot(held_out_steps, held_out, color=_HELD_OUT, linewidth=2, marker="o", markersize=4, label=label)
    lines = []
    if baselines:
        order = min(baselines, key=lambda name: baselines[name])
        lines.append((baselines[order], _BASELINE, "--", f"best Markov model, order {order}: {baselines[order]:.3f}"))
    if floor is not None:
        lines.append((floor, _FLOOR, ":", f"floor: {floor:.3f}"))
    for value, colour, style, label in lines:
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.6, label=label)
    _set_height(axes, np.concatenate([bits, held_out]), [line[0] for line in lines])
    axes.set_xlabel("training step")
    axes.set_ylabel("bits per base" if objective == "causal" else "bits per masked base (not a likelihood)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right")
    figure.savefig(out_png)


def learning_curve(log: Sequence[dict[str, Any]], out_png: str | Path) -> None:
    """Draw the losses of a fine-tuning run against the training step, and beneath them its held-out metrics.

    Args:
        log: rows of `log.jsonl`. A row with `step` and `loss` is a point of the training curve, with `eval_loss` of the
            held-out one; `eval_` before the name of a metric that is 1 at best gives its curve. Other rows are skipped.
        out_png: file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = {key: series(log, f"eval_{key}") for key in _METRIC_COLOURS}
    measured = {key: points for key, points in measured.items() if len(points[0])}
    figure = Figure(figsize=(7.2, 6.4 if measured else 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 if measured else 1, sharex=True, squeeze=False)[:, 0]
    steps, loss = series(log, "loss")
    if len(steps):
        panels[0].plot(steps, loss, color=_TRAIN, alpha=0.25, linewidth=1, marker="." if len(steps) == 1 else None)
        panels[0].plot(
            steps, running_mean(loss), color=_TRAIN, linewidth=2, label=f"training: {loss[-1]:.3f} at the end"
        )
    held_out_steps, held_out = series(log, "eval_loss")
    if len(held_out_steps):
        label = f"held out: {held_out.min():.3f} at best, step {held_out_steps[held_out.argmin()]:g}"
        panels[0].plot(held_out_steps, held_out, color=_HELD_OUT, linewidth=2, marker="o", markersize=4, label=label)
    panels[0].set_ylabel("loss")
    for key, (at, values) in measured.items():
        label = f"{key}: {values.max():.3f} at best, step {at[values.argmax()]:g}"
        panels[1].plot(at, values, color=_METRIC_COLOURS[key], linewidth=2, marker="o", markersize=4, label=label)
        panels[1].set_ylabel("on held-out rows")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="upper right" if axes is panels[0] else "lower right")
    panels[-1].set_xlabel("training step")
    figure.savefig(out_png)


def running_mean(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Average each value with the ones before it, over about `share` of all; shape (n,) in, shape (n,) out."""
    width = max(round(len(values) * share), 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def series(log: Sequence[dict[str, Any]], key: str, against: str = "step") -> tuple[np.ndarray, np.ndarray]:
    """Return the places (n,) and values (n,) of a key, of rows that have both; what is not finite is left out."""
    points = [(row[against], row[key]) for row in log if against in row and row.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table[:, 1])]
    return table[:, 0], table[:, 1]


def _set_height(axes, bits: np.ndarray, lines: list[float]) -> None:
    """Show all but the first steep fall, which would flatten the rest."""
    shown = np.concatenate([bits, lines])
    if not len(shown):
        return
    top = max([float(np.quantile(bits, 0.97)), *lines] if len(bits) else lines)
    bottom = float(shown.min())
    margin = max(0.05 * (top - bottom), 0.005)
    axes.set_ylim(bottom - margin, top + 3 * margin)


def score_histogram(parts: Sequence[tuple[np.ndarray, np.ndarray]], name: str, out_png: str | Path) -> None:
    """Draw how scores of variants are spread: substitutions, insertions and deletions apart.

    Args:
        parts: (n,) scores, NaN left out, and (n,) lengths: above 0 of insertions, below 0 of deletions, 0 of all else.
        name: of the score.
        out_png: file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.concatenate([np.zeros(0), *(scores for scores, _ in parts)])
    lengths = np.concatenate([np.zeros(0, int), *(lengths for _, lengths in parts)])
    known = np.isfinite(values)
    figure = Figure(figsize=(7.2, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if known.any():
        low, high = np.quantile(values[known], [0.001, 0.999])
        edges = np.linspace(low, high if high > low else low + 1, 81)
        kinds = (
            ("substitutions", lengths == 0, _TRAIN),
            ("insertions", lengths > 0, _FLOOR),
            ("deletions", lengths < 0, _HELD_OUT),
        )
        for label, rows, colour in kinds:
            shown = values[known & rows]
            if len(shown):
                axes.hist(np.clip(shown, low, high), edges, color=colour, alpha=0.55, label=f"{label}: {len(shown):,}")
        axes.legend(frameon=False, loc="upper left")
    else:
        axes.text(0.5, 0.5, "nothing was scored", ha="center", transform=axes.transAxes)
    axes.axvline(0, color=_BASELINE, linewidth=1)
    axes.set_xlabel(f"{name.replace('_', ' ')}" + (", nats" if "llr" in name or name == "likelihood" else ""))
    axes.set_ylabel("ALTs")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out_png)
