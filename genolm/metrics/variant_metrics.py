"""How well scores of variants separate the labels, with intervals, and by how much they beat the best baseline.

    labels 0 and 1    auroc auprc, and auprc_by_chrom: AUPRC of each chromosome, averaged with its number of variants as
                      weight, which compares variants with others of their own chromosome only
    numbers           spearman pearson

A chromosome with one class has no AUPRC and is left out of that mean. Every score is oriented first, so that a greater
value means label 1 or a greater number; a value below 0.5, or 0 for correlations, is then worse than chance.
Intervals: bootstrap of rows, or of groups of rows, the same draws for every score; a difference is paired.

Cost: one sort per score, then a few passes over the rows per replicate: 14 s for a score of 300,000 rows and 1,000
replicates.

Source: TraitGym, github.com/songlab-cal/TraitGym, workflow/rules/model.smk (the weighted mean by chromosome; its
standard error draws chromosomes, here that is a bootstrap by the group `chrom`); Benegas, Eraslan & Song (2025),
doi:10.1101/2025.02.11.637758.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genolm.metrics import weighted_metrics as weighted
from genolm.metrics.bootstrap import NUM_REPLICATES, BootstrapMetrics, Statistic, paired_difference, replicate

METRICS = {"binary": ("auroc", "auprc", "auprc_by_chrom"), "regression": ("spearman", "pearson")}


@dataclass(frozen=True)
class Candidate:
    """A score to be evaluated: values (n,), finite, oriented so that a greater one means label 1 or a greater number.

    `direction` says in words how they were oriented.
    """

    name: str
    values: np.ndarray
    direction: str
    baseline: bool = False


def score_all(
    kind: str,
    labels: np.ndarray,
    chrom: np.ndarray,
    values: Mapping[str, np.ndarray],
    groups: np.ndarray | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    show: bool = False,
) -> dict[str, BootstrapMetrics]:
    """Return name → metrics from all rows and from each bootstrap replicate, the same draws for every name.

    Args:
        kind: binary or regression.
        labels: shape (n,), 0 and 1, or numbers.
        chrom: shape (n,), chromosome of each row; used where labels are 0 and 1.
        values: name → shape (n,), oriented as a Candidate's.
        groups: shape (n,), 0 … G - 1, rows that are drawn together; None: each row by itself.
        num_replicates: of the bootstrap.
        seed: of its draws.
        show: show a progress bar, where it takes more than a second.

    Raises:
        ValueError: shapes differ, a value is not finite, or kind is another.
    """
    if kind not in METRICS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(METRICS)}")
    for name, column in values.items():
        if column.shape != labels.shape or not np.isfinite(column).all():
            raise ValueError(f"{name}: shape {column.shape} for {labels.shape} labels; every row needs a finite number")
    statistics = {
        name: _binary(labels, column, chrom) if kind == "binary" else _regression(labels, column)
        for name, column in values.items()
    }
    options = {"num_replicates": num_replicates, "seed": seed, "progress": show}
    return replicate(statistics, len(labels), len(labels), groups, **options)


def compare_scores(
    kind: str,
    labels: np.ndarray,
    chrom: np.ndarray,
    candidates: Sequence[Candidate],
    groups: np.ndarray | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    show: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate every candidate, and compare each that is not a baseline with the best baseline; else as `score_all`.

    The best baseline is chosen for each metric by itself, on the same rows, which favours baselines.

    Returns:
        One row per candidate, in their order: {"name", "baseline", "direction", "metrics": metric → {value, low, high},
        "difference": metric → {against, value, low, high}}; a baseline has no difference. Of labels 0 and 1 also
        "by_chromosome": name → {variants, auprc}, NaN where there is one class.
    """
    values = {one.name: one.values for one in candidates}
    scores = score_all(kind, labels, chrom, values, groups, num_replicates=num_replicates, seed=seed, show=show)
    rows = []
    for one in candidates:
        mine = scores[one.name]
        row = {"name": one.name, "baseline": one.baseline, "direction": one.direction, "metrics": mine.intervals()}
        if kind == "binary":
            row["by_chromosome"] = by_chromosome(labels, one.values, chrom)
        row["difference"] = {}
        for key in METRICS[kind] if not one.baseline else ():
            best = best_baseline(candidates, scores, key)
            if best is not None:
                row["difference"][key] = {"against": best} | paired_difference([mine], [scores[best]], key)
        rows.append(row)
    return rows


def by_chromosome(labels: np.ndarray, values: np.ndarray, chrom: np.ndarray) -> dict[str, dict[str, float]]:
    """Return chromosome → {variants, auprc}, in order of appearance; AUPRC is NaN where there is one class."""
    table = {}
    for name, rows, positive, order, ends in _by_chromosome(labels, values, chrom):
        auprc = weighted.ranking(np.ones((1, len(rows))), positive, order, ends)["auprc"]
        table[str(name)] = {"variants": len(rows), "auprc": float(auprc[0])}
    return table


def best_baseline(candidates: Sequence[Candidate], scores: Mapping[str, BootstrapMetrics], metric: str) -> str | None:
    """Return the name of the baseline of greatest value, None where none has one."""
    value = {one.name: scores[one.name].values[metric] for one in candidates if one.baseline}
    return max((name for name in value if not np.isnan(value[name])), key=value.__getitem__, default=None)


def _binary(labels: np.ndarray, values: np.ndarray, chrom: np.ndarray) -> Statistic:
    positive, (order, ends) = labels == 1, weighted.tied_order(values)
    parts = [part for _, *part in _by_chromosome(labels, values, chrom)]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        ranked = weighted.ranking(weights, positive, order, ends)
        if len(parts) == 1:
            return ranked | {"auprc_by_chrom": ranked["auprc"]}
        each = [weighted.ranking(weights[:, rows], *rest)["auprc"] for rows, *rest in parts]
        size = [weights[:, rows].sum(axis=1) for rows, *_ in parts]
        return ranked | {"auprc_by_chrom": weighted.mean(each, size)}

    return statistic


def _by_chromosome(labels: np.ndarray, values: np.ndarray, chrom: np.ndarray) -> list[tuple]:
    """Return name, row numbers, positive, and the two of `weighted.tied_order`, of each chromosome."""
    parts = []
    for name in dict.fromkeys(chrom):
        rows = np.flatnonzero(chrom == name)
        parts.append((name, rows, labels[rows] == 1, *weighted.tied_order(values[rows])))
    return parts


def _regression(labels: np.ndarray, values: np.ndarray) -> Statistic:
    orders = weighted.tied_order(labels), weighted.tied_order(values)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        pearson = weighted.agreement(weights, labels, values)["pearson"]
        return {"spearman": weighted.spearman(weights, *orders), "pearson": pearson}

    return statistic
