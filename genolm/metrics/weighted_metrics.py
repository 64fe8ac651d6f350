"""Metrics of weighted rows, many weightings at once, as a bootstrap needs them.

A bootstrap replicate is a weighting: how often each row was drawn. Scores are sorted once; a replicate then costs a few
passes over the rows and no sort. Everywhere weights are (R, n), 0 or more, and a result is (R,), NaN where not defined.

Source: Fawcett (2006), doi:10.1016/j.patrec.2005.10.010 (ROC); Davis & Goadrich (2006), doi:10.1145/1143844.1143874
(PR); Gorodkin (2004), doi:10.1016/j.compbiolchem.2004.09.006 (MCC of several classes).
"""

from collections.abc import Sequence

import numpy as np


def tied_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort (n,) values from high to low; return the order (n,) and the last position of each run of equal values."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def ranking(weights: np.ndarray, positive: np.ndarray, order: np.ndarray, ends: np.ndarray) -> dict[str, np.ndarray]:
    """Return AUROC and AUPRC (average precision, no interpolation); NaN where only one class has weight.

    `positive` is (n,) bool; `order` and `ends` are those of `tied_order(scores)`: rows of equal score are passed at
    once, so that their order does not matter.
    """
    drawn = weights[:, order]
    passed = np.cumsum(drawn, axis=1)[:, ends]
    hits = np.cumsum(drawn * positive[order], axis=1)[:, ends]
    positives, negatives = hits[:, -1], passed[:, -1] - hits[:, -1]
    new_hits = np.diff(hits, axis=1, prepend=0)
    misses = passed - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        # A positive outranks the negatives still to come, and ties with those of its own score.
        behind = negatives[:, None] - misses + np.diff(misses, axis=1, prepend=0) / 2
        auroc = (new_hits * behind).sum(axis=1) / (positives * negatives)
        auprc = (new_hits * hits / np.maximum(passed, 1e-300)).sum(axis=1) / positives
    both = (positives > 0) & (negatives > 0)
    return {"auroc": np.where(both, auroc, np.nan), "auprc": np.where(both, auprc, np.nan)}


def confusion(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the weight of each (label, predicted) pair, shape (R, K, K), of labels and predictions (n,) in 0 … K-1."""
    cell = labels * num_classes + predicted
    counts = [np.bincount(cell, weights=row, minlength=num_classes**2) for row in weights]
    return np.array(counts).reshape(len(weights), num_classes, num_classes)


def mcc(counts: np.ndarray) -> np.ndarray:
    """Matthews correlation of (R, K, K) counts: 0 where one class alone is predicted, NaN where it is all there is."""
    total = counts.sum(axis=(1, 2))
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    right = np.trace(counts, axis1=1, axis2=2)
    spread_true = total**2 - (true**2).sum(axis=1)
    spread_predicted = total**2 - (predicted**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (right * total - (true * predicted).sum(axis=1)) / np.sqrt(spread_true * spread_predicted)
    return np.where(spread_true == 0, np.nan, np.where(spread_predicted == 0, 0.0, value))


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, shape (R, K), of (R, K, K) counts; NaN for a class that is neither there nor predicted."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    size = counts.sum(axis=1) + counts.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, 2 * hits / size, np.nan)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Fraction of the weight on the diagonal of (R, K, K) counts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))


def mean(values: Sequence[np.ndarray] | np.ndarray, weights: Sequence[np.ndarray] | float = 1.0) -> np.ndarray:
    """Average (K, R) over K with weights (K, R), leaving out NaN; NaN where no weight is left."""
    table = np.asarray(values)
    kept = np.where(np.isnan(table), 0.0, np.asarray(weights))
    total = kept.sum(axis=0)
    return (np.nan_to_num(table) * kept).sum(axis=0) / np.where(total > 0, total, np.nan)


def agreement(weights: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    """Return R², Pearson's correlation and the mean squared error of predictions (n,) of labels (n,).

    R² is NaN where the labels are constant, Pearson's where either is.
    """
    error = weights @ (labels - predictions) ** 2
    total, spread, correlation = _moments(weights, labels, predictions)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"r2": 1 - error / spread, "pearson": correlation, "mse": error / total}


def spearman(
    weights: np.ndarray, label_order: tuple[np.ndarray, np.ndarray], order: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Spearman's correlation: Pearson's of the ranks among the drawn rows, ties at their mean rank.

    Labels and predictions come as what `tied_order` returns of them.
    """
    a, b = _ranks(weights, *label_order), _ranks(weights, *order)
    total = weights.sum(axis=1)
    # Mid-ranks have the mean (total + 1) / 2 whatever the ties; here minus one half.
    a -= total[:, None] / 2
    b -= total[:, None] / 2
    weighted = weights * a
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.einsum("rn,rn->r", weighted, a) * np.einsum("rn,rn,rn->r", weights, b, b)
        value = np.einsum("rn,rn->r", weighted, b) / np.sqrt(spread)
    return np.where(spread > 0, value, np.nan)


def _ranks(weights: np.ndarray, order: np.ndarray, ends: np.ndarray) -> np.ndarray:
    drawn = weights[:, order]
    up_to = np.cumsum(drawn, axis=1)[:, ends]
    middle = up_to - np.diff(up_to, axis=1, prepend=0) / 2
    ranks = np.empty_like(drawn)
    ranks[:, order] = np.repeat(middle, np.diff(ends, prepend=-1), axis=1)
    return ranks


def _moments(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weight, the sum of squares of x about its mean, and Pearson's correlation, each (R,)."""
    # Centred first: the sums below then lose no digits to a large common offset.
    x, y = x - x.mean(), y - y.mean()
    total = weights.sum(axis=1)
    powers = weights @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = powers[:, 0] / total, powers[:, 1] / total
        spread_x = _spread(powers[:, 2], mean_x, total)
        spread_y = _spread(powers[:, 3], mean_y, total)
        correlation = (powers[:, 4] - total * mean_x * mean_y) / np.sqrt(spread_x * spread_y)
    return total, spread_x, np.clip(correlation, -1, 1)


def _spread(squares: np.ndarray, mean: np.ndarray, total: np.ndarray) -> np.ndarray:
    spread = squares - total * mean**2
    # The spread of a constant is rounding error.
    return np.where(spread > 1e-12 * squares, spread, np.nan)
