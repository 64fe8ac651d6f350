"""Curves against scikit-learn's, and by hand."""

import numpy as np
import pytest

from genolm.metrics.curves import GRID, dense, joined_bases, one_against_rest, precision_recall, reliability, roc

sklearn = pytest.importorskip("sklearn.metrics")


def test_roc_equals_sklearn():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=300)
    p = (labels + rng.normal(size=300)).round(1)
    false, true, _ = sklearn.roc_curve(labels, p, drop_intermediate=False)
    assert roc([(labels == 1, p)]) == pytest.approx(np.interp(GRID, false, true))
    # Averaged at the same false-positive rate.
    assert roc([(labels == 1, p), (labels == 0, p)]) == pytest.approx(
        (roc([(labels == 1, p)]) + roc([(labels == 0, p)])) / 2
    )


def test_precision_at_a_recall_is_that_of_the_first_threshold_that_reaches_it():
    rng = np.random.default_rng(1)
    labels, p = rng.integers(2, size=50), rng.random(50).round(1)
    precision, recall, _ = sklearn.precision_recall_curve(labels, p)
    precision, recall = precision[::-1][1:], recall[::-1][1:]
    expected = [precision[np.flatnonzero(recall >= at - 1e-12)[0]] for at in GRID]
    assert precision_recall([(labels == 1, p)]) == pytest.approx(expected)


def test_pairs_of_each_kind():
    labels, p = np.array([0, 1, 2, 1]), np.full((4, 4), 0.25)
    assert len(one_against_rest("multiclass", labels, p)) == 3  # the fourth class has no rows
    (pair,) = one_against_rest("binary", labels == 1, p[:, 0])
    assert pair[0].tolist() == [False, True, False, True]
    several = np.array([[0, np.nan], [1, 1], [np.nan, 1]])
    ((positive, values),) = one_against_rest("multilabel", several, p[:3, :2])
    assert positive.tolist() == [False, True] and len(values) == 2


def test_reliability_by_hand():
    found = reliability("binary", np.array([0, 1, 1, 1]), np.array([0.02, 0.08, 0.9, 1.0]))
    assert found.count.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (found.predicted[0], found.observed[0], found.predicted[9], found.observed[9]) == pytest.approx(
        (0.05, 0.5, 0.95, 1)
    )
    assert found.error == pytest.approx((0.45 * 2 + 0.05 * 2) / 4)
    # Of classes: the confidence in the one predicted.
    found = reliability("multiclass", np.array([0, 1]), np.array([[0.75, 0.25], [0.65, 0.35]]))
    assert np.flatnonzero(found.count).tolist() == [6, 7]
    assert (found.observed[6], found.observed[7]) == (0, 1)


def test_bases_are_joined_and_unknown_ones_left_out():
    labels = np.empty(2, dtype=object)
    labels[:] = [np.array([0, -100]), np.array([1])]
    predictions = np.empty(2, dtype=object)
    predictions[:] = [np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.2, 0.8]])]
    known, p = joined_bases("per-base", labels, predictions)
    assert (known.tolist(), p.tolist()) == ([0, 1], [[0.9, 0.1], [0.2, 0.8]])


def test_cells_count_points():
    centres, counts = dense(np.array([0.1, 0.2, 0.9]), np.array([0.1, 0.3, 0.9]), 0, 1, 2)
    assert centres.tolist() == [[0.25, 0.25], [0.75, 0.75]] and counts.tolist() == [2, 1]
