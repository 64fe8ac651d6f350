"""Variant scores as PNG: ROC and precision–recall curves, or scores against labels that are numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genolm.metrics.curves import GRID, precision_recall, roc
from genolm.metrics.format import number
from genolm.metrics.variant_metrics import Candidate
from genolm.reports.figures import new_panels
from genolm.reports.svg import QUIET, TONES, save_png

_COLOURS = (*TONES, "#000000", "#999999")
_MAX_PANELS = 6
_MAX_POINTS = 5000


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
    figure, (left, right) = new_panels(1, 2, 5.5, 5.0)
    positive = labels == 1
    prevalence = positive.mean()
    for one, row, style in zip(candidates, rows, _line_styles(candidates), strict=True):
        pair, metrics = [(positive, one.values)], row["metrics"]
        left.plot(GRID, roc(pair), label=f"{one.name}  {metrics['auroc']['value']:.3f}", **style)
        right.plot(GRID, precision_recall(pair), label=f"{one.name}  {metrics['auprc']['value']:.3f}", **style)
    left.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    right.axhline(prevalence, color="#bbbbbb", linewidth=1, linestyle=":", label=f"positives  {prevalence:.3f}")
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(0, 1), ylim=(0, 1))
    # Fixed places: finding the best one is slow with many rows. Precision ends at the fraction of positives, so the
    # curves lie low where these are few.
    empty = "upper right" if prevalence < 0.5 else "lower left"
    for axes, title, place in ((left, "AUROC", "lower right"), (right, "AUPRC", empty)):
        style: dict[str, Any] = {"frameon": False, "fontsize": 7.5, "alignment": "left", "loc": place}
        legend = axes.legend(title=title, **style)
        legend.get_title().set_fontsize(8.5)
    save_png(figure, out_png)


def variant_scatter(
    labels: np.ndarray,
    candidates: Sequence[Candidate],
    rows: Sequence[dict[str, Any]],
    out_png: str | Path,
    name: str = "label",
) -> None:
    """Draw numeric labels against the ranks of at most six scores: all others before baselines, then the best.

    Many rows are thinned evenly. Arguments as in `variant_curves`, with numbers as labels, and their name.
    """

    def order(k: int) -> tuple[bool, float]:
        return candidates[k].baseline, -np.nan_to_num(rows[k]["metrics"]["spearman"]["value"], nan=-2)

    chosen = sorted(range(len(candidates)), key=order)[:_MAX_PANELS]
    columns = min(3, len(chosen))
    figure, panels = new_panels(-(-len(chosen) // columns), columns, 3.6, 3.2)
    shown = np.arange(0, len(labels), -(-len(labels) // _MAX_POINTS))
    for axes, k in zip(panels, chosen, strict=False):
        rank = _scaled_ranks(candidates[k].values)
        colour = QUIET if candidates[k].baseline else TONES[0]
        axes.scatter(rank[shown], labels[shown], s=4, alpha=0.35, color=colour, linewidths=0)
        axes.set_title(f"{candidates[k].name}\nSpearman {number(rows[k]['metrics']['spearman']['value'])}", fontsize=9)
        axes.set(xlabel="rank of the score", ylabel=name, xlim=(-0.02, 1.02))
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    save_png(figure, out_png)


def _scaled_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0 to 1, ties at their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2
    return middle[place] / max(len(values) - 1, 1)


def _line_styles(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the style of each line: scores solid and before baselines in the order of colours, baselines dashed."""
    order = sorted(range(len(candidates)), key=lambda k: candidates[k].baseline)
    styles = {}
    for place, k in enumerate(order):
        dashes = ("--", ":", "-.") if candidates[k].baseline else ("-",)
        styles[k] = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": dashes[place // len(_COLOURS) % len(dashes)],
            "linewidth": 1.2 if candidates[k].baseline else 2.0,
        }
    return [styles[k] for k in range(len(candidates))]
