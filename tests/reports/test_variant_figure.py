"""Pictures of variant scores: what is drawn can be seen."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from genolm.metrics.variant_metrics import Candidate, compare_scores
from genolm.reports.variant_figure import variant_curves, variant_scatter


@pytest.fixture
def drawn(monkeypatch):
    """Return the list that figures are put in instead of being saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure))
    return figures


def candidates(labels, of_label, number):
    rng = np.random.default_rng(0)
    return [Candidate(f"score-{i}", of_label * labels + rng.normal(size=len(labels)), "") for i in range(number)]


@pytest.mark.parametrize("share", [0.02, 0.2, 0.8, 0.98])
def test_the_legend_hides_no_curve(drawn, share):
    labels = (np.random.default_rng(1).random(2000) < share).astype(float)
    scores = candidates(labels, 0.1, 6)
    variant_curves(labels, scores, compare_scores("binary", labels, np.full(2000, "1"), scores, num_replicates=2), "")
    (figure,) = drawn
    figure.draw_without_rendering()
    axes = figure.axes[1]
    box = axes.get_legend().get_window_extent()
    for line in axes.lines[:6]:
        points = axes.transData.transform(
            line.get_xydata()[len(line.get_xydata()) // 20 :]
        )  # the start may be anywhere
        assert not box.count_contains(points)


def test_the_axis_is_named_after_the_column(drawn):
    labels = np.random.default_rng(1).normal(size=50)
    scores = candidates(labels, -1, 2)
    rows = compare_scores("regression", labels, np.full(50, "1"), scores, num_replicates=2)
    variant_scatter(labels, scores, rows, "", "DMS_score")
    assert [axes.get_ylabel() for axes in drawn[0].axes[:2]] == ["DMS_score"] * 2
    assert "\nSpearman −0." in drawn[0].axes[0].get_title()
