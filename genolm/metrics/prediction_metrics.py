"""From predictions to metrics, each with its interval.

    kind         metrics
    binary       mcc auroc auprc f1 accuracy
    multiclass   mcc macro_f1 accuracy auroc auprc            one class against the rest, mean over classes
    multilabel   auprc auroc f1 mcc                           mean over labels; what is not known is left out
    regression   r2 spearman pearson mse                      mean over targets; of several, also each: r2/NAME
    per-base     as multiclass, over all bases of all rows
    tracks       as regression, over all bases of all rows

A metric that is not defined, such as the AUROC of one class, is NaN. Values equal scikit-learn's and scipy's.
Intervals: bootstrap of rows; a row is drawn with all its bases. Cost: one sort, then a few passes over the rows a
replicate: 2 ms for the binary metrics of 50,000 rows.

Source: Efron (1979), doi:10.1214/aos/1176344552; percentile intervals, Efron (1981).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genolm.metrics import weighted_metrics as weighted
from genolm.metrics.task_metrics import KINDS, check_labels, check_probabilities, prepare, same_shape

PRIMARY = dict.fromkeys(KINDS, "mcc") | {"multilabel": "auprc", "regression": "r2", "tracks": "r2"}
LOWER_IS_BETTER = {"mse"}
_CLASSES, _NUMBERS = ("mcc", "macro_f1", "accuracy", "auroc", "auprc"), ("r2", "spearman", "pearson", "mse")
METRICS = {
    "binary": ("mcc", "auroc", "auprc", "f1", "accuracy"),
    "multiclass": _CLASSES,
    "multilabel": ("auprc", "auroc", "f1", "mcc"),
    "regression": _NUMBERS,
    "per-base": _CLASSES,
    "tracks": _NUMBERS,
}
"""Kind of task → its metrics."""
NUM_REPLICATES = 1000
CONFIDENCE = 0.95
_CELLS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Scores:
    """Metrics of one run's predictions, from all rows and from each bootstrap replicate.

    Two of them with equal `num_rows` and `seed` saw the same drawn rows.

    Attributes:
        values: metric → value from all rows.
        replicates: metric → shape (R,), NaN where a replicate leaves it undefined.
        num_rows: rows that were drawn from.
        seed: of the draws.
    """

    values: dict[str, float]
    replicates: dict[str, np.ndarray]
    num_rows: int
    seed: int


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the threshold of greatest MCC: a row is positive where its probability is at least this.

    It lies midway between two neighbouring probabilities, or is 0.5 where 0.5 is as good; among equals, nearest 0.5.

    Args:
        labels: shape (n,), 0 or 1, NaN where not known; of validation rows.
        probabilities: shape (n,), of label 1.

    Raises:
        ValueError: as in `metrics`.
    """
    labels, probabilities = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    same_shape(labels, probabilities)
    known = ~np.isnan(labels)
    labels, probabilities = labels[known], probabilities[known]
    check_labels(labels, 2)
    check_probabilities(probabilities)
    positive = labels == 1
    if positive.all() or not positive.any():
        return 0.5
    order, ends = weighted.tied_order(probabilities)
    hits = np.append(0, np.cumsum(positive[order])[ends])
    misses = np.append(0, np.cumsum(~positive[order])[ends])
    counts = np.array([[misses[-1] - misses, misses], [hits[-1] - hits, hits]], dtype=np.float64)
    mcc = weighted.mcc(counts.transpose(2, 0, 1))
    # The k-th cut takes the k highest values: every threshold in (below, above] makes it.
    values = probabilities[order][ends]
    above, below = np.append(np.nextafter(values[0], 2), values), np.append(values, -np.inf)
    middle = np.append(above[:1], (values[:-1] + values[1:]) / 2)
    cut = np.where(middle > below[:-1], middle, above[:-1])
    cut = np.append(cut, values[-1])
    cut[(below < 0.5) & ((above >= 0.5) | (np.arange(len(cut)) == 0))] = 0.5
    best = np.flatnonzero(mcc >= mcc.max() - 1e-12)
    return float(cut[best[np.argmin(np.abs(cut[best] - 0.5))]])


def metrics(
    kind: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    threshold: float | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return metric → value.

    Args:
        kind: of the task, see the top of this file.
        labels: binary, multiclass: (n,) integers. multilabel, regression: (n, T), NaN where not known. per-base: n
            arrays (L,), -100 where not known. tracks: n arrays (L, T).
        predictions: binary: (n,), probability of class 1. multiclass: (n, K) probabilities. multilabel: (n, T)
            probabilities. regression: (n, T). per-base: n arrays (L, K). tracks: n arrays (L, T).
        threshold: binary: a probability. multilabel: one, or one a label. None is 0.5. Other kinds have none.
        names: of the targets, where the values of each are wanted beside their mean; their numbers where None.

    Raises:
        ValueError: no rows, shapes that differ, predictions not finite, or not probabilities where such are due.
    """
    num_rows, _, statistic = prepare(kind, labels, predictions, threshold, names)
    return {name: float(value[0]) for name, value in statistic(np.ones((1, num_rows))).items()}


def score(
    kind: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    threshold: float | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Scores:
    """Return metrics from all rows and from rows drawn with replacement; which are drawn follows from n and seed alone.

    Arguments as in `metrics`.
    """
    num_rows, num_cells, statistic = prepare(kind, labels, predictions, threshold, names)
    values = {name: float(value[0]) for name, value in statistic(np.ones((1, num_rows))).items()}
    parts = [statistic(weights) for weights in drawn_weights(num_rows, num_cells, num_replicates, seed)]
    replicates = {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in values}
    return Scores(values, replicates, num_rows, seed)


def with_intervals(
    kind: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    threshold: float | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    *,
    confidence: float = CONFIDENCE,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Return metric → {value, low, high}; the percentile interval of a bootstrap of rows. Arguments as in `metrics`."""
    found = score(kind, labels, predictions, threshold, names, num_replicates=num_replicates, seed=seed)
    return {name: interval(found.values[name], found.replicates[name], confidence) for name in found.values}


def interval(value: float, replicates: np.ndarray, confidence: float = CONFIDENCE) -> dict[str, float]:
    """Return {value, low, high}; replicates (R,) that are NaN are left out, and no end is known where half of them are.

    Raises:
        ValueError: confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.95")
    kept = replicates[~np.isnan(replicates)]
    if np.isnan(value) or 2 * len(kept) <= len(replicates):
        return {"value": value, "low": float("nan"), "high": float("nan")}
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return {"value": value, "low": float(low), "high": float(high)}


def drawn_weights(num_rows: int, num_cells: int, num_replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, shape (at most as many replicates as fit in memory, num_rows)."""
    rng = np.random.default_rng(seed)
    at_once = max(_CELLS_AT_ONCE // num_cells, 1)
    for start in range(0, num_replicates, at_once):
        size = min(at_once, num_replicates - start)
        rows = rng.integers(num_rows, size=(size, num_rows))
        rows += np.arange(size)[:, None] * num_rows
        counts = np.bincount(rows.ravel(), minlength=size * num_rows)
        yield counts.reshape(size, num_rows).astype(np.float64)
