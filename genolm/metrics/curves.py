"""Points of ROC, precision–recall and reliability curves, and of dense scatter plots.

Curves of several classes, labels or seeds are averaged vertically, at the same false positive rate or recall.

Source: Fawcett (2006), doi:10.1016/j.patrec.2005.10.010 (ROC, vertical averaging); Guo et al. (2017), arXiv:1706.04599
(reliability, expected calibration error).
"""

from dataclasses import dataclass

import numpy as np

from genolm.metrics.weighted_metrics import tied_order

GRID = np.linspace(0, 1, 201)
NUM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Mean predicted probability and observed fraction, in bins of equal width.

    Attributes:
        predicted: shape (NUM_BINS,), mean probability, NaN in an empty bin.
        observed: shape (NUM_BINS,), fraction of rows whose label is the predicted one, NaN in an empty bin.
        count: shape (NUM_BINS,), rows.
        error: expected calibration error, |predicted - observed| averaged over rows.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    error: float


def one_against_rest(kind: str, labels: np.ndarray, predictions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (positive, probability), each (n,), of every class or label with positive and negative rows.

    A binary task has one pair. Labels and predictions as in `prediction_metrics.compute_metrics`; kinds with classes.
    """
    labels, predictions = joined_bases(kind, labels, predictions)
    if kind == "binary":
        pairs = [(labels == 1, predictions)]
    elif kind == "multilabel":
        labelled = ~np.isnan(labels)
        pairs = [(labels[rows, k] == 1, predictions[rows, k]) for k, rows in enumerate(labelled.T)]
    else:
        pairs = [(labels == k, column) for k, column in enumerate(predictions.T)]
    return [(positive, values) for positive, values in pairs if positive.any() and not positive.all()]


def roc(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the mean true positive rate at each false positive rate of GRID."""
    curves = []
    for positive, values in pairs:
        true, false = _positive_counts(positive, values)
        curves.append(np.interp(GRID, false / false[-1], true / true[-1]))
    return np.mean(curves, axis=0)


def precision_recall(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the mean precision at each recall of GRID: that of the first threshold that reaches it."""
    curves = []
    for positive, values in pairs:
        true, false = (counts[1:] for counts in _positive_counts(positive, values))
        reached = np.searchsorted(true / true[-1], GRID - 1e-12)
        curves.append((true / (true + false))[np.minimum(reached, len(true) - 1)])
    return np.mean(curves, axis=0)


def reliability(kind: str, labels: np.ndarray, predictions: np.ndarray) -> Reliability:
    """Bin probabilities; with several classes, the probability of the predicted class and whether it is right."""
    labels, predictions = joined_bases(kind, labels, predictions)
    if kind == "binary":
        probability, true = predictions, labels == 1
    elif kind == "multilabel":
        labelled = ~np.isnan(labels)
        probability, true = predictions[labelled], labels[labelled] == 1
    else:
        probability, true = predictions.max(axis=1), predictions.argmax(axis=1) == labels
    place = np.minimum((probability * NUM_BINS).astype(int), NUM_BINS - 1)
    count = np.bincount(place, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, weights=probability, minlength=NUM_BINS) / count
        observed = np.bincount(place, weights=true, minlength=NUM_BINS) / count
    error = float(np.nansum(np.abs(predicted - observed) * count) / count.sum())
    return Reliability(predicted, observed, count, error)


def joined_bases(kind: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the bases of all rows, without those of unknown class; other kinds are returned unchanged."""
    if kind not in ("per-base", "tracks"):
        return labels, predictions
    labels, predictions = np.concatenate(list(labels)), np.concatenate(list(predictions))
    if kind == "tracks":
        return labels, predictions
    labelled = labels != -100
    return labels[labelled], predictions[labelled]


def dense(x: np.ndarray, y: np.ndarray, low: float, high: float, num_cells: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (m, 2) and counts (m,) of the cells that hold points, on a square grid over low … high."""
    edges = np.linspace(low, high, num_cells + 1)
    counts, _, _ = np.histogram2d(x, y, bins=(edges, edges))
    middle = (edges[:-1] + edges[1:]) / 2
    cells = np.argwhere(counts > 0)
    return middle[cells], counts[counts > 0]


def _positive_counts(positive: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count true and false positives with each distinct value as the threshold, from none to all rows."""
    order, ends = tied_order(values)
    return np.append(0, np.cumsum(positive[order])[ends]), np.append(0, np.cumsum(~positive[order])[ends])
