"""Bootstrap: percentile intervals of metrics over drawn rows, and of ratios of sums over drawn blocks.

Neighbouring bases share a gene or a repeat, so that of bits per base whole blocks of the genome are drawn with
replacement, not bases. Cost of a replicate: one draw per row or block.

Source: Efron (1979), doi:10.1214/aos/1176344552; percentile intervals, Efron (1981); blocks, Künsch (1989),
doi:10.1214/aos/1176347265.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from genolm.config.console import progress_bar

NUM_REPLICATES = 1000
CONFIDENCE = 0.95
Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
"""A function from weights of rows (R, n) to metric → (R,)."""
_CELLS_AT_ONCE = 1 << 20


def interval(value: float, replicates: np.ndarray, confidence: float = CONFIDENCE) -> dict[str, float]:
    """Return {value, low, high}, leaving out replicates (R,) that are NaN; the ends are NaN where half of them are.

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


@dataclass(frozen=True)
class BootstrapMetrics:
    """Metrics from all rows, and from each bootstrap replicate, shape (R,), NaN where they are not defined.

    Two of them with equal `num_rows` (rows, or groups of rows, to draw from) and `seed` saw the same drawn rows.
    """

    values: dict[str, float]
    replicates: dict[str, np.ndarray]
    num_rows: int
    seed: int

    def intervals(self) -> dict[str, dict[str, float]]:
        """Return metric → {value, low, high}."""
        return {name: interval(value, self.replicates[name]) for name, value in self.values.items()}


class Estimate(NamedTuple):
    """A ratio with its interval; low and high are NaN where fewer than two blocks carry weight."""

    value: float
    low: float
    high: float
    num_blocks: int


def drawn_rows(num_rows: int, num_cells: int, num_replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield row numbers drawn with replacement, (replicates, num_rows), as many replicates at once as fit in memory.

    A replicate needs memory for `num_cells` numbers. The draws depend on `num_rows` and `seed` alone.
    """
    rng = np.random.default_rng(seed)
    at_once = max(_CELLS_AT_ONCE // num_cells, 1)
    for start in range(0, num_replicates, at_once):
        yield rng.integers(num_rows, size=(min(at_once, num_replicates - start), num_rows))


def drawn_weights(num_rows: int, num_cells: int, num_replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, shape (replicates, num_rows). Arguments as in `drawn_rows`."""
    for rows in drawn_rows(num_rows, num_cells, num_replicates, seed):
        cells = rows + np.arange(len(rows))[:, None] * num_rows
        yield np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.float64)


def replicate(
    statistics: Mapping[str, Statistic],
    num_rows: int,
    num_cells: int,
    groups: np.ndarray | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, BootstrapMetrics]:
    """Apply statistics to all rows and to bootstrap replicates, the same draws for every statistic.

    `groups`, shape (num_rows,), 0 … G - 1, are rows that are drawn together; None draws each row by itself.
    """
    values = {
        name: {key: float(value[0]) for key, value in statistic(np.ones((1, num_rows))).items()}
        for name, statistic in statistics.items()
    }
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in statistics}
    num_units = num_rows if groups is None else int(groups.max()) + 1
    with progress_bar(desc="bootstrap", unit="replicate", total=num_replicates, disable=not progress, delay=1) as bar:
        for weights in drawn_weights(num_units, num_cells, num_replicates, seed):
            by_row = weights if groups is None else weights[:, groups]
            for name, statistic in statistics.items():
                parts[name].append(statistic(by_row))
            bar.update(len(weights))
    results = {}
    for name, row in values.items():
        replicates = {key: np.concatenate([part[key] for part in parts[name]] or [np.empty(0)]) for key in row}
        results[name] = BootstrapMetrics(row, replicates, num_units, seed)
    return results


def ratio(
    x: np.ndarray,
    w: np.ndarray,
    block: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Estimate sum(x) / sum(w) and its percentile interval over blocks.

    Args:
        x: shape (n,), numerators, such as bits.
        w: shape (n,), denominators, 0 or more, such as bases. Blocks whose w sum to 0 are left out.
        block: shape (n,), any integers; equal where values are drawn together.
        confidence: of the interval, between 0 and 1.
        num_replicates: bootstrap replicates.
        seed: of the draws.

    Raises:
        ValueError: shapes differ, or confidence is out of range.
    """
    shapes = [np.shape(column) for column in (x, w, block)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"x, w and block have shapes {shapes}; give one dimension of the same length")
    _, number = np.unique(np.asarray(block), return_inverse=True)
    sums = np.array([np.bincount(number, weights=np.asarray(column)) for column in (x, w)])
    sums = sums[:, sums[1] > 0]
    num_blocks = sums.shape[1]
    value = float(sums[0].sum() / sums[1].sum()) if num_blocks else float("nan")
    replicates = np.full(1, np.nan)
    if num_blocks > 1:
        draws = drawn_rows(num_blocks, num_blocks, num_replicates, seed)
        replicates = np.concatenate([sums[0][rows].sum(axis=1) / sums[1][rows].sum(axis=1) for rows in draws])
    return Estimate(**interval(value, replicates, confidence), num_blocks=num_blocks)
