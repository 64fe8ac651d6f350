"""Points of the curves that a comparison shows: ROC, precision–recall, reliability, and dense scatters.

Curves of several classes, labels or seeds are averaged vertically, at the same false-positive rate or recall.

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
    """What was predicted and what was found, in bins of equal width.

    Attributes:
        predicted: shape (NUM_BINS,), mean probability in each bin, NaN where it is empty.
        found: shape (NUM_BINS,), share of rows that came true.
        count: shape (NUM_BINS,), rows.
        error: expected calibration error, |predicted - found| averaged over rows.
    """

    predicted: np.ndarray
    found: np.ndarray
    count: np.ndarray
    error: float


def one_against_rest(kind: str, labels: np.ndarray, predictions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (positive, probability), each (n,), of every class or label that has both kinds of rows.

    Of a binary task that is one pair. Labels and predictions as in `metrics.metrics`; other kinds have no such pairs.
    """
    labels, predictions = flat(kind, labels, predictions)
    if kind == "binary":
        pairs = [(labels == 1, predictions)]
    elif kind == "multilabel":
        known = ~np.isnan(labels)
        pairs = [(labels[rows, k] == 1, predictions[rows, k]) for k, rows in enumerate(known.T)]
    else:
        pairs = [(labels == k, column) for k, column in enumerate(predictions.T)]
    return [(positive, values) for positive, values in pairs if positive.any() and not positive.all()]


def roc(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the mean true-positive rate at each false-positive rate of GRID."""
    found = []
    for positive, values in pairs:
        hits, misses = _passed(positive, values)
        found.append(np.interp(GRID, misses / misses[-1], hits / hits[-1]))
    return np.mean(found, axis=0)


def precision_recall(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the mean precision at each recall of GRID: that of the first threshold that reaches it."""
    found = []
    for positive, values in pairs:
        hits, misses = (counts[1:] for counts in _passed(positive, values))
        reached = np.searchsorted(hits / hits[-1], GRID - 1e-12)
        found.append((hits / (hits + misses))[np.minimum(reached, len(hits) - 1)])
    return np.mean(found, axis=0)


def reliability(kind: str, labels: np.ndarray, predictions: np.ndarray) -> Reliability:
    """Bin probabilities; of several classes, the probability of the predicted class and whether that was right."""
    labels, predictions = flat(kind, labels, predictions)
    if kind == "binary":
        probability, came_true = predictions, labels == 1
    elif kind == "multilabel":
        known = ~np.isnan(labels)
        probability, came_true = predictions[known], labels[known] == 1
    else:
        probability, came_true = predictions.max(axis=1), predictions.argmax(axis=1) == labels
    place = np.minimum((probability * NUM_BINS).astype(int), NUM_BINS - 1)
    count = np.bincount(place, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, weights=probability, minlength=NUM_BINS) / count
        found = np.bincount(place, weights=came_true, minlength=NUM_BINS) / count
    error = float(np.nansum(np.abs(predicted - found) * count) / count.sum())
    return Reliability(predicted, found, count, error)


def flat(kind: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the bases of all rows, those of unknown class left out; other kinds come back as they are."""
    if kind not in ("per-base", "tracks"):
        return labels, predictions
    labels, predictions = np.concatenate(list(labels)), np.concatenate(list(predictions))
    if kind == "tracks":
        return labels, predictions
    known = labels != -100
    return labels[known], predictions[known]


def dense(x: np.ndarray, y: np.ndarray, low: float, high: float, num_cells: int = 40) -> list[tuple[float, float, int]]:
    """Return (x, y, count) of the centres of the cells that hold points, on a square grid over low … high."""
    edges = np.linspace(low, high, num_cells + 1)
    counts, _, _ = np.histogram2d(x, y, bins=(edges, edges))
    middle = (edges[:-1] + edges[1:]) / 2
    return [(float(middle[a]), float(middle[b]), int(counts[a, b])) for a, b in np.argwhere(counts > 0)]


def _passed(positive: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count positives and negatives at or above each distinct value, from none to all."""
    order, ends = tied_order(values)
    hits = np.append(0, np.cumsum(positive[order])[ends])
    misses = np.append(0, np.cumsum(~positive[order])[ends])
    return hits, misses
