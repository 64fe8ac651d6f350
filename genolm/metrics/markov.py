"""Markov models of order k with inverted repeats: what k-mer counts alone predict, the baseline of language models.

The order-k model gives base x after the k bases c before it the probability

    p(x | c) = (n(c x) + alpha) / (n(c) + 4 alpha)

where n counts both strands of the training sequences. Near the start of a sequence, or after a letter other than A, C,
G, T, fewer than k bases of context exist: there the longest context available is used, in counting and in scoring
alike, so that every base is counted at every order and no context crosses a gap or the end of a sequence.

Cost: one pass over the training sequences fills the highest order up to 12, and each lower order is a sum of the one
above it. Memory is the counts, 4^(k+1) · 4/3 numbers (0.4 GB at k = 12), and a block of bases. Orders above 12 list
the k-mers that occur instead: up to 24 bytes per training base and order, and 18 more while they are counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genolm.genome.alphabet import BASE_INDEX

MAX_ORDER = 16
DENSE_ORDER = 12
"""Highest order whose k-mers are all counted in a table, whether they occur or not."""
ALPHA = 1.0
BLOCK_BASES = 1 << 20
_COMPLEMENT_CODE = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


@dataclass(frozen=True)
class SparseCounts:
    """Counts (n,) of the (k + 1)-mers that occur, ascending and packed, where tables would be mostly zeros."""

    kmers: np.ndarray
    counts: np.ndarray

    def next_base_counts(self, contexts: np.ndarray) -> np.ndarray:
        """Return (n, 4) counts of the bases that follow packed contexts, shape (n,)."""
        # Ascending look-ups stay in the processor's cache, which is worth a sort.
        order = np.argsort(contexts)
        first = contexts[order] * 4
        place = np.searchsorted(self.kmers, first)
        in_order = np.zeros((len(first), 4), dtype=np.uint32)
        for step in range(4):
            here = np.flatnonzero(place + step < len(self.kmers))
            base = self.kmers[place[here] + step] - first[here]
            hit = base < 4
            in_order[here[hit], base[hit]] = self.counts[place[here[hit]] + step]
        counts = np.empty_like(in_order)
        counts[order] = in_order
        return counts


@dataclass(frozen=True)
class MarkovLadder:
    """Markov models of several orders, fitted on the same sequences.

    Attributes:
        orders: the orders to report, ascending.
        alpha: pseudo-count of each base in each context.
        dense: dense[k], shape (4 ** (k + 1),), for k = 0 … at most 12: number of times each (k + 1)-mer was seen on
            either strand. The index is the (k + 1)-mer in base 4, first base most significant, A, C, G, T = 0, 1, 2, 3.
        sparse: counts of the reported orders above 12.
    """

    orders: tuple[int, ...]
    alpha: float
    dense: tuple[np.ndarray, ...]
    sparse: dict[int, SparseCounts]

    def next_base_counts(self, order: int, contexts: np.ndarray) -> np.ndarray:
        """Return (n, 4) counts of the bases that follow packed contexts (n,) of `order` bases each."""
        if order in self.sparse:
            return self.sparse[order].next_base_counts(contexts)
        return self.dense[order].reshape(-1, 4)[contexts]

    def bits(self, sequence: np.ndarray) -> dict[int, np.ndarray]:
        """Return order → -log2 p(base | bases before it) of a sequence, uint8 (length,) in any case.

        Values are float32 (length,), NaN where the letter is not A, C, G or T.
        """
        bits = {order: np.full(len(sequence), np.nan, dtype=np.float32) for order in self.orders}
        for start, end, order, values in self._bits_of_blocks(sequence):
            bits[order][start:end] = values
        return bits

    def bits_per_base(self, sequences: Iterable[np.ndarray]) -> dict[int, float]:
        """Return order → average bits per A, C, G or T over all sequences, NaN without a base."""
        total, num_bases = dict.fromkeys(self.orders, 0.0), 0
        for sequence in sequences:
            num_bases += int((BASE_INDEX[sequence] < 4).sum())
            for _, _, order, values in self._bits_of_blocks(sequence):
                total[order] += float(np.nansum(values))
        return {order: bits / num_bases if num_bases else float("nan") for order, bits in total.items()}

    def _bits_of_blocks(self, sequence: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Yield (start, end, order, bits of those bases), block by block, orders ascending."""
        counted = (*range(len(self.dense)), *self.sparse)
        for start, end, context in blocks(len(sequence), counted[-1]):
            index, run = pack(BASE_INDEX[sequence[start - context : end]], context, counted[-1])
            values = np.full(len(index), np.nan)
            for order, above in zip(counted, (*counted[1:], 0), strict=True):
                reported = order in self.orders
                # Of an order not reported, only the bases whose context is too short for the next order are needed.
                chosen = np.flatnonzero(run > order if reported else (run > order) & (run <= above))
                kmers = index[chosen] & (4 ** (order + 1) - 1)
                counts = self.next_base_counts(order, kmers >> 2)
                seen = counts[np.arange(len(kmers)), kmers & 3] + self.alpha
                values[chosen] = np.log2(counts.sum(axis=1) + 4 * self.alpha) - np.log2(seen)
                if reported:
                    yield start, end, order, values.copy()


def fit(
    sequences: Iterable[np.ndarray], orders: Sequence[int] = range(DENSE_ORDER + 1), alpha: float = ALPHA
) -> MarkovLadder:
    """Count the k-mers of both strands of training sequences.

    Args:
        sequences: arrays of shape (length,), dtype uint8, any case; read once, one at a time.
        orders: orders to report, each 0 … 16.
        alpha: pseudo-count added to each base in each context, above 0.

    Raises:
        ValueError: no order, an order outside 0 … 16, or alpha not above 0.
    """
    reported = tuple(sorted({int(order) for order in orders}))
    if not reported or reported[0] < 0 or reported[-1] > MAX_ORDER:
        raise ValueError(f"Markov orders are {list(orders)}; give at least one, each from 0 to {MAX_ORDER}")
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0, or a k-mer never seen in training has no likelihood")
    top = reported[-1]
    # 32 bits hold the count of any 11-mer of any genome, and halve the largest tables.
    dense = [np.zeros(4 ** (k + 1), np.uint32 if k >= 10 else np.int64) for k in range(min(top, DENSE_ORDER) + 1)]
    packed: list[tuple[np.ndarray, np.ndarray]] = []
    for sequence in sequences:
        for start, end, left in blocks(len(sequence), top):
            right = min(end + top, len(sequence)) - end
            forward = BASE_INDEX[sequence[start - left : end]]
            reverse = _COMPLEMENT_CODE[BASE_INDEX[sequence[start : end + right][::-1]]]
            for codes, context in ((forward, left), (reverse, right)):
                index, run = pack(codes, context, top)
                _count(dense, index, run)
                if top > DENSE_ORDER:
                    packed.append((index, np.minimum(run, top + 1).astype(np.uint8)))
    for order in range(len(dense) - 1, 0, -1):
        dense[order - 1] += dense[order].reshape(4, -1).sum(axis=0, dtype=dense[order - 1].dtype)
    sparse = {order: _sparse_counts(packed, order) for order in reported if order > DENSE_ORDER}
    return MarkovLadder(reported, float(alpha), tuple(dense), sparse)


def blocks(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, number of bases before start to look back at) of blocks of a sequence."""
    for start in range(0, length, BLOCK_BASES):
        yield start, min(start + BLOCK_BASES, length), min(start, context)


def _count(dense: list[np.ndarray], index: np.ndarray, run: np.ndarray) -> None:
    """Add each base once, at the highest order of `dense` that its context allows."""
    top = len(dense) - 1
    full = run > top
    kmers = index if full.all() else index[full]
    np.add.at(dense[top], kmers & (4 ** (top + 1) - 1), dense[top].dtype.type(1))
    short = np.flatnonzero((run > 0) & ~full)
    for order in range(top if len(short) else 0):
        kmers = index[short[run[short] == order + 1]] & (4 ** (order + 1) - 1)
        np.add.at(dense[order], kmers, dense[order].dtype.type(1))


def _sparse_counts(packed: list[tuple[np.ndarray, np.ndarray]], order: int) -> SparseCounts:
    """Count the (order + 1)-mers of packed blocks, each (index, run) of `pack`."""
    parts = [index[run > order] & (4 ** (order + 1) - 1) for index, run in packed]
    kmers, counts = np.unique(np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64), return_counts=True)
    return SparseCounts(kmers, counts.astype(np.uint32))


def pack(codes: np.ndarray, context: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack the (order + 1)-mer that ends at each position of codes[context:].

    Args:
        codes: (length,) uint8, 0 … 3 for A, C, G, T, and 4 for any other letter.
        context: number of leading codes that are looked back at only.
        order: at most 30.

    Returns:
        index: (n,) int64, last base least significant, so that `index & (4 ** (k + 1) - 1)` is the (k + 1)-mer.
        run: (n,) int64, number of bases in a row that end here within codes; 0 where the letter is not a base.
    """
    is_base = codes < 4
    clean = np.where(is_base, codes, 0).astype(np.int64)
    index = clean.copy()
    for lag in range(1, order + 1):
        index[lag:] |= clean[:-lag] << (2 * lag)
    position = np.arange(len(codes))
    run = position - np.maximum.accumulate(np.where(is_base, -1, position))
    return index[context:], run[context:]
