"""Block bootstrap: intervals of ratios of sums when neighbouring values are not independent.

Neighbouring bases share a gene or a repeat, so that whole blocks of the genome are drawn with replacement, not bases.
Cost: each value is read once to sum its block; a replicate then costs one draw per block.

Source: Künsch (1989), doi:10.1214/aos/1176347265; percentile intervals, Efron (1981).
"""

from dataclasses import dataclass

import numpy as np

NUM_REPLICATES = 1000
_DRAWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """A ratio or difference of ratios, with its interval.

    Attributes:
        value: from all blocks.
        low: lower end of the interval; NaN where fewer than two blocks carry weight.
        high: upper end; NaN likewise.
        num_blocks: blocks that carry weight.
    """

    value: float
    low: float
    high: float
    num_blocks: int


def ratio(
    x: np.ndarray,
    w: np.ndarray,
    block: np.ndarray,
    *,
    confidence: float = 0.95,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Estimate sum(x) / sum(w) and its percentile interval over blocks.

    Args:
        x: shape (n,), numerators, such as bits.
        w: shape (n,), denominators, 0 or more, such as bases.
        block: shape (n,), any integers; equal where values are to be drawn together.
        confidence: of the interval, between 0 and 1.
        num_replicates: bootstrap replicates.
        seed: of the draws; the same arguments give the same interval.

    Returns:
        The estimate; all NaN where sum(w) is 0. Blocks whose w sum to 0 are left out.

    Raises:
        ValueError: shapes differ, or confidence is out of range.
    """
    sums = _block_sums([x, w], block)
    return _estimate(sums[:, sums[1] > 0], _one_ratio, confidence, num_replicates, seed)


def difference(
    x: np.ndarray,
    w: np.ndarray,
    other_x: np.ndarray,
    other_w: np.ndarray,
    block: np.ndarray,
    *,
    other_block: np.ndarray | None = None,
    confidence: float = 0.95,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Estimate sum(x) / sum(w) - sum(other_x) / sum(other_w), paired: both ratios see the same drawn blocks.

    Args:
        x: shape (n,), numerators of the first.
        w: shape (n,), its denominators.
        other_x: shape (m,), numerators of the second.
        other_w: shape (m,), its denominators.
        block: shape (n,), block of each value of the first.
        other_block: shape (m,), block of each value of the second; None where it is `block`.
        confidence: as in `ratio`.
        num_replicates: as in `ratio`.
        seed: as in `ratio`.

    Returns:
        The estimate. Blocks in which either has no weight are left out of both.

    Raises:
        ValueError: shapes differ, or confidence is out of range.
    """
    other_block = block if other_block is None else other_block
    name, sums = _named_block_sums([x, w], block)
    other_name, other_sums = _named_block_sums([other_x, other_w], other_block)
    _, here, there = np.intersect1d(name, other_name, assume_unique=True, return_indices=True)
    paired = np.concatenate([sums[:, here], other_sums[:, there]])
    kept = (paired[1] > 0) & (paired[3] > 0)
    return _estimate(paired[:, kept], _two_ratios, confidence, num_replicates, seed)


def _one_ratio(sums: np.ndarray) -> np.ndarray:
    return sums[0] / sums[1]


def _two_ratios(sums: np.ndarray) -> np.ndarray:
    return sums[0] / sums[1] - sums[2] / sums[3]


def _named_block_sums(columns: list[np.ndarray], block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shapes = [np.shape(column) for column in (*columns, block)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"x, w and block have shapes {shapes}; give one dimension of the same length")
    names, number = np.unique(np.asarray(block), return_inverse=True)
    sums = [np.bincount(number, weights=np.asarray(column), minlength=len(names)) for column in columns]
    return names, np.array(sums)


def _block_sums(columns: list[np.ndarray], block: np.ndarray) -> np.ndarray:
    return _named_block_sums(columns, block)[1]


def _estimate(sums: np.ndarray, statistic, confidence: float, num_replicates: int, seed: int) -> Estimate:
    """Apply statistic (C, R) → (R,) to the sums (C, num_blocks) of all blocks, and of blocks drawn with replacement."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.95")
    num_blocks = sums.shape[1]
    if num_blocks == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    value = float(statistic(sums.sum(axis=1, keepdims=True))[0])
    if num_blocks == 1:
        return Estimate(value, float("nan"), float("nan"), 1)
    rng = np.random.default_rng(seed)
    at_once = max(_DRAWS_AT_ONCE // num_blocks, 1)
    replicates = []
    for start in range(0, num_replicates, at_once):
        drawn = rng.integers(num_blocks, size=(min(at_once, num_replicates - start), num_blocks))
        replicates.append(statistic(np.array([column[drawn].sum(axis=1) for column in sums])))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(replicates), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), num_blocks)
