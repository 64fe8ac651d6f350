"""Means over seeds, and differences between runs, with intervals: bootstrap of rows × seeds.

A replicate draws rows with replacement, the same rows for every run, and for each run draws from its seeds with
replacement. Two runs that err on the same rows then differ by far less than their own intervals suggest.
From S seeds S - 1 are drawn, which makes the variance of their mean unbiased; S draws would give (S - 1) / S of it.
With one seed the interval covers the choice of rows only and says nothing about another training. Where seeds differ by
more than rows explain, few are too few: measured, a 95 % interval of 3 contains the truth 90 times in 100, of 8 95.

Source: Efron & Tibshirani (1993), chapters 13 and 16; Dror et al. (2018), doi:10.18653/v1/P18-1128 (paired bootstrap);
Rao & Wu (1988), doi:10.1080/01621459.1988.10478591 (one draw fewer).
"""

from collections.abc import Sequence

import numpy as np

from genolm.metrics.bootstrap import BootstrapMetrics, interval


def over_seeds(scores: Sequence[BootstrapMetrics], metric: str, *, stream: int = 0) -> tuple[float, np.ndarray]:
    """Average a metric over the seeds of one run.

    Args:
        scores: one per seed, from the same rows and the same seed of row draws.
        metric: a key of their values.
        stream: number of the random stream that seeds are drawn by; runs of another number draw independently.

    Returns:
        The mean of all seeds, and that of the drawn seeds in each replicate, shape (R,).

    Raises:
        ValueError: the scores come from other numbers of rows or other draws, so that they cannot be paired.
    """
    _check_paired(scores)
    table = np.array([one.replicates[metric] for one in scores])
    num_seeds, num_replicates = table.shape
    drawn = np.random.default_rng([scores[0].seed, 1, stream]).integers(
        num_seeds, size=(max(num_seeds - 1, 1), num_replicates)
    )
    value = float(np.mean([one.values[metric] for one in scores]))
    return value, table[drawn, np.arange(num_replicates)].mean(axis=0)


def run_interval(scores: Sequence[BootstrapMetrics], metric: str) -> dict[str, float]:
    """Return {value, low, high} of a metric's mean over the seeds of one run. Arguments as in `over_seeds`."""
    return interval(*over_seeds(scores, metric))


def paired_difference(
    ours: Sequence[BootstrapMetrics], theirs: Sequence[BootstrapMetrics], metric: str
) -> dict[str, float]:
    """Return {value, low, high} of our metric minus theirs.

    Args:
        ours: of one run, one per seed.
        theirs: of the other, from the same rows in the same order and the same seed of row draws.
        metric: a key of their values.

    Raises:
        ValueError: as in `over_seeds`.
    """
    _check_paired([*ours, *theirs])
    value, replicates = over_seeds(ours, metric, stream=0)
    # Seeds of two runs have nothing in common: they are drawn independently.
    other_value, other_replicates = over_seeds(theirs, metric, stream=1)
    return interval(value - other_value, replicates - other_replicates)


def _check_paired(scores: Sequence[BootstrapMetrics]) -> None:
    draws = {(one.num_rows, one.seed, len(next(iter(one.replicates.values())))) for one in scores}
    if len(draws) != 1:
        raise ValueError(f"scores of different draws cannot be paired: (rows, seed, replicates) are {sorted(draws)}")
