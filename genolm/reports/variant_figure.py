"""Scores of variants as a picture: ROC and precision–recall curves, or scores against labels that are numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genolm.metrics.curves import GRID, precision_recall, roc
from genolm.metrics.format import number
from genolm.metrics.variant_metrics import Candidate

# Okabe and Ito's palette, as in figures.py. Scores are solid, baselines dashed.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MOST_PANELS = 6
_MOST_POINTS = 5000


def variant_curves(
    labels: np.ndarray, candidates: Sequence[Candidate], rows: Sequence[dict[str, Any]], out_png: str | Path
) -> None:
    """Draw the ROC and the precision–recall curve of every score.

    Args:
        labels: shape (n,), 0 and 1.
        candidates: the scores, oriented.
        rows: of `variant_metrics.compare_scores`, in the same order.
        out_png: file to write.
    """
    figure, (left, right) = _figure(1, 2, (11.0, 5.0))
    positive = labels == 1
    styles = _styles(candidates)
    for one, row, style in zip(candidates, rows, styles, strict=True):
        pair, metrics = [(positive, one.values)], row["metrics"]
        left.plot(GRID, roc(pair), label=f"{one.name}  {metrics['auroc']['value']:.3f}", **style)
        right.plot(GRID, precision_recall(pair), label=f"{one.name}  {metrics['auprc']['value']:.3f}", **style)
    left.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    right.axhline(positive.mean(), color="#bbbbbb", linewidth=1, linestyle=":")
    left.set(xlabel="share of negatives passed", ylabel="share of positives found", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="share of positives found", ylabel="share of them among those passed", xlim=(0, 1), ylim=(0, 1))
    # Places of their own: to look for the best one takes long where there are many rows. Precision ends at the share of
    # positives: where they are few, the curves lie low.
    empty = "upper right" if positive.mean() < 0.5 else "lower left"
    for axes, title, place in ((left, "ROC, area", "lower right"), (right, "precision–recall, area", empty)):
        legend = axes.legend(frameon=False, fontsize=7.5, title=title, alignment="left", loc=place)
        legend.get_title().set_fontsize(8.5)
    figure.savefig(out_png)


def variant_scatter(
    labels: np.ndarray,
    candidates: Sequence[Candidate],
    rows: Sequence[dict[str, Any]],
    out_png: str | Path,
    name: str = "label",
) -> None:
    """Draw numbers against the ranks of scores, at most six of them: those that are no baselines, then the best.

    Of many rows every so-many-th is drawn. Arguments as in `variant_curves`, labels being numbers, and their name.
    """

    def merit(k: int) -> tuple[bool, float]:
        return candidates[k].baseline, -np.nan_to_num(rows[k]["metrics"]["spearman"]["value"], nan=-2)

    chosen = sorted(range(len(candidates)), key=merit)[:_MOST_PANELS]
    columns = min(3, len(chosen))
    figure, panels = _figure(-(-len(chosen) // columns), columns, (3.6 * columns, 3.2 * -(-len(chosen) // columns)))
    every = np.arange(0, len(labels), -(-len(labels) // _MOST_POINTS))
    for axes, k in zip(panels, chosen, strict=False):
        rank = _ranks(candidates[k].values)
        colour = "#666666" if candidates[k].baseline else _COLOURS[0]
        axes.scatter(rank[every], labels[every], s=4, alpha=0.35, color=colour, linewidths=0)
        axes.set_title(f"{candidates[k].name}\nSpearman {number(rows[k]['metrics']['spearman']['value'])}", fontsize=9)
        axes.set(xlabel="rank of the score", ylabel=name, xlim=(-0.02, 1.02))
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    figure.savefig(out_png)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0 to 1, ties at their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2
    return middle[place] / max(len(values) - 1, 1)


def _figure(num_rows: int, num_columns: int, size: tuple[float, float]):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _styles(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return how each is drawn: colours go round among scores, and among baselines."""
    found, met = [], {True: 0, False: 0}
    for one in candidates:
        number = met[one.baseline]
        met[one.baseline] += 1
        dash = ("--", ":", "-.") if one.baseline else ("-",)
        width = 1.2 if one.baseline else 2.0
        colour = _COLOURS[(number + 4 * one.baseline) % len(_COLOURS)]
        found.append({"color": colour, "linestyle": dash[number // len(_COLOURS) % len(dash)], "linewidth": width})
    return found
