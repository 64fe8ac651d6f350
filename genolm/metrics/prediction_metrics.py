"""Metrics of predictions, each with a bootstrap interval.

    kind         metrics
    binary       mcc auroc auprc f1 accuracy
    multiclass   mcc macro_f1 accuracy auroc auprc            one class against the rest, mean over classes
    multilabel   auprc auroc f1 mcc                           mean over labels; missing labels are left out
    regression   r2 spearman pearson mse                      mean over targets; of several, also each: r2/NAME
    per-base     as multiclass, over all bases of all rows
    tracks       as regression, over all bases of all rows

A metric that is not defined, such as the AUROC of one class, is NaN. Values equal scikit-learn's and scipy's.
Intervals: bootstrap of rows; a row is drawn with all its bases. Cost: one sort, then a few passes over the rows per
replicate: 2 ms for the binary metrics of 50,000 rows.
"""

from collections.abc import Sequence

import numpy as np

from genolm.labels.task import KINDS
from genolm.metrics import weighted_metrics as weighted
from genolm.metrics.bootstrap import NUM_REPLICATES, BootstrapMetrics, replicate
from genolm.metrics.task_metrics import check_classes, check_probabilities, metric_function, same_shape

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


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the threshold of greatest MCC: a row is positive where its probability is at least this.

    It lies midway between two neighbouring probabilities, or is 0.5 where 0.5 is as good; among equals, nearest 0.5.

    Args:
        labels: shape (n,), 0 or 1, NaN where missing; of validation rows.
        probabilities: shape (n,), of label 1.

    Raises:
        ValueError: as in `compute_metrics`.
    """
    labels, probabilities = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    same_shape(labels, probabilities)
    labelled = ~np.isnan(labels)
    labels, probabilities = labels[labelled], probabilities[labelled]
    check_classes(labels, 2)
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


def compute_metrics(
    kind: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    threshold: float | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return metric → value.

    Args:
        kind: of the task, see the top of this file.
        labels: binary, multiclass: (n,) integers. multilabel, regression: (n, T), NaN where missing. per-base: n
            arrays (L,), -100 where missing. tracks: n arrays (L, T).
        predictions: binary: (n,), probability of class 1. multiclass: (n, K) probabilities. multilabel: (n, T)
            probabilities. regression: (n, T). per-base: n arrays (L, K). tracks: n arrays (L, T).
        threshold: binary: a probability. multilabel: one, or one a label. None is 0.5. Other kinds have none.
        names: of the targets, for the metrics of each; their numbers where None.

    Raises:
        ValueError: no rows, shapes that differ, predictions not finite, or not probabilities where the task needs them.
    """
    num_rows, _, statistic = metric_function(kind, labels, predictions, threshold, names)
    return {name: float(value[0]) for name, value in statistic(np.ones((1, num_rows))).items()}


def bootstrap_metrics(
    kind: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    threshold: float | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> BootstrapMetrics:
    """Return metrics from all rows and from bootstrap replicates of rows. Arguments as in `compute_metrics`."""
    num_rows, num_cells, statistic = metric_function(kind, labels, predictions, threshold, names)
    return replicate({kind: statistic}, num_rows, num_cells, num_replicates=num_replicates, seed=seed)[kind]
