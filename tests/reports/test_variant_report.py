"""Figures of variant scores: legends, labels, colours."""

from dataclasses import replace

import numpy as np
import pytest

from genolm.metrics.variant_metrics import Candidate, compare_scores
from genolm.reports.variant_report import variant_curves, variant_scatter


def candidates(labels, of_label, number):
    rng = np.random.default_rng(0)
    return [Candidate(f"score-{i}", of_label * labels + rng.normal(size=len(labels)), "") for i in range(number)]


@pytest.mark.parametrize("fraction", [0.02, 0.2, 0.8, 0.98])
def test_the_legend_hides_no_curve(drawn, fraction):
    labels = (np.random.default_rng(1).random(2000) < fraction).astype(float)
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


def test_curves_have_their_usual_names_and_colours_of_their_own(drawn):
    labels = (np.random.default_rng(1).random(400) < 0.3).astype(float)
    scores = candidates(labels, 1.0, 5)
    scores = [replace(one, baseline=k in (0, 2)) for k, one in enumerate(scores)]
    rows = compare_scores("binary", labels, np.full(400, "1"), scores, num_replicates=2)
    variant_curves(labels, scores, rows, "")
    roc, precision = drawn[0].axes
    assert (roc.get_xlabel(), roc.get_ylabel()) == ("false positive rate", "true positive rate")
    assert (precision.get_xlabel(), precision.get_ylabel()) == ("recall", "precision")
    assert len({line.get_color() for line in roc.lines[:5]}) == 5
    assert [line.get_linestyle() for line in roc.lines[:5]] == ["--", "-", "--", "-", "-"]
    assert [line.get_label() for line in roc.lines[:5]] == [
        f"{row['name']}  {row['metrics']['auroc']['value']:.3f}" for row in rows
    ]
    chance = precision.lines[-1]
    assert chance.get_ydata()[0] == labels.mean() and chance.get_label() == f"positives  {labels.mean():.3f}"


def test_the_axis_is_named_after_the_column(drawn):
    labels = np.random.default_rng(1).normal(size=50)
    scores = candidates(labels, -1, 2)
    rows = compare_scores("regression", labels, np.full(50, "1"), scores, num_replicates=2)
    variant_scatter(labels, scores, rows, "", "DMS_score")
    assert [axes.get_ylabel() for axes in drawn[0].axes[:2]] == ["DMS_score"] * 2
    assert "\nSpearman −0." in drawn[0].axes[0].get_title()
