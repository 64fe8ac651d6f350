"""Markov models of order k with inverted repeats: what k-mer counts alone predict, the baseline of language models.

The order-k model gives letter x after the k letters c before it the probability

    p(x | c) = (n(c x) + alpha) / (n(c) + 4 alpha)

where n counts both strands of the training pieces. Near the start of a piece, or after a letter other than A, C, G, T,
fewer than k letters of context exist: there the longest context available is used, in counting and in scoring alike,
so that every base is counted at every order and no context reaches over a gap or from one piece into the next.

Cost: one pass over the training letters fills the highest order, and each lower order is a sum of the one above it.
Memory is the counts, 4^(k+1) · 4/3 numbers (0.4 GB at k = 12), and a block of letters.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genolm.genome.alphabet import BASE_INDEX

MAX_ORDER = 12
ALPHA = 1.0
BLOCK_BASES = 1 << 20


@dataclass(frozen=True)
class MarkovLadder:
    """Markov models of orders 0 … K fitted on the same letters.

    Attributes:
        orders: the orders asked for, ascending.
        alpha: pseudo-count of each letter in each context.
        counts: counts[k], shape (4 ** (k + 1),): number of times each (k + 1)-mer was seen on either strand. The index
            is the (k + 1)-mer in base 4, first letter most significant, A, C, G, T = 0, 1, 2, 3.
    """

    orders: tuple[int, ...]
    alpha: float
    counts: tuple[np.ndarray, ...]

    def bits(self, letters: np.ndarray) -> dict[int, np.ndarray]:
        """Score every letter of one piece by every order.

        Args:
            letters: shape (length,), dtype uint8. Case is ignored.

        Returns:
            order → -log2 p(letter | letters before it), shape (length,), float32; NaN where the letter is not
            A, C, G or T.
        """
        found = {order: np.full(len(letters), np.nan, dtype=np.float32) for order in self.orders}
        for start, end, by_order in self._bits_of_blocks(letters):
            for order, values in by_order:
                found[order][start:end] = values
        return found

    def bits_per_base(self, pieces: Iterable[np.ndarray]) -> dict[int, float]:
        """Average bits per A, C, G or T over pieces, by order. NaN where the pieces hold no base.

        Args:
            pieces: letters arrays, each shape (length,), dtype uint8; contexts never cross from one to the next.
        """
        total = dict.fromkeys(self.orders, 0.0)
        num_bases = 0
        for letters in pieces:
            num_bases += int(np.count_nonzero(BASE_INDEX[letters] < 4))
            for _, _, by_order in self._bits_of_blocks(letters):
                for order, values in by_order:
                    total[order] += float(np.nansum(values))
        return {order: bits / num_bases if num_bases else float("nan") for order, bits in total.items()}

    def _bits_of_blocks(self, letters: np.ndarray) -> Iterator[tuple[int, int, Iterator[tuple[int, np.ndarray]]]]:
        for start in range(0, len(letters), BLOCK_BASES):
            end = min(start + BLOCK_BASES, len(letters))
            context = min(start, len(self.counts) - 1)
            yield start, end, self._bits_of(BASE_INDEX[letters[start - context : end]], context)

    def _bits_of(self, codes: np.ndarray, context: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (order, bits of codes[context:]), ascending, each order falling back to the one below it."""
        top = len(self.counts) - 1
        index, run = _kmers(codes, context, top)
        by_context_length = [np.flatnonzero(run == length + 1) for length in range(top)]
        values = np.full(len(index), np.nan)
        for order in range(top + 1):
            asked = order in self.orders
            chosen = np.flatnonzero(run > order) if asked else by_context_length[order]
            kmers = index[chosen] & (4 ** (order + 1) - 1)
            table = self.counts[order].reshape(-1, 4)
            seen = self.counts[order][kmers] + self.alpha
            values[chosen] = np.log2(table[kmers >> 2].sum(axis=1) + 4 * self.alpha) - np.log2(seen)
            if asked:
                yield order, values.copy()


def fit(
    pieces: Iterable[np.ndarray], orders: Sequence[int] = range(MAX_ORDER + 1), alpha: float = ALPHA
) -> MarkovLadder:
    """Count the k-mers of both strands of training sequences.

    Args:
        pieces: letters arrays, each shape (length,), dtype uint8, any case; read once, one at a time.
        orders: orders to report, each 0 … 12.
        alpha: pseudo-count added to each letter in each context, above 0.

    Returns:
        The fitted models.

    Raises:
        ValueError: no order, an order outside 0 … 12, or alpha not above 0.
    """
    wanted = tuple(sorted({int(order) for order in orders}))
    if not wanted or wanted[0] < 0 or wanted[-1] > MAX_ORDER:
        raise ValueError(f"Markov orders are {list(orders)}; give at least one, each from 0 to {MAX_ORDER}")
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0, or a k-mer never seen in training has no likelihood")
    top = wanted[-1]
    # 32 bits hold the count of any 11-mer of any genome, and halve the largest tables.
    counts = [np.zeros(4 ** (k + 1), dtype=np.uint32 if k >= 10 else np.int64) for k in range(top + 1)]
    for letters in pieces:
        for start in range(0, len(letters), BLOCK_BASES):
            end = min(start + BLOCK_BASES, len(letters))
            left, right = max(start - top, 0), min(end + top, len(letters))
            _count(counts, BASE_INDEX[letters[left:end]], start - left)
            _count(counts, _COMPLEMENT_CODE[BASE_INDEX[letters[start:right][::-1]]], right - end)
    for order in range(top, 0, -1):
        counts[order - 1] += counts[order].reshape(4, -1).sum(axis=0, dtype=counts[order - 1].dtype)
    return MarkovLadder(wanted, float(alpha), tuple(counts))


_COMPLEMENT_CODE = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


def _count(counts: list[np.ndarray], codes: np.ndarray, context: int) -> None:
    """Add each base of codes[context:] once, at the highest order its context allows."""
    top = len(counts) - 1
    index, run = _kmers(codes, context, top)
    full = run > top
    np.add.at(counts[top], index if full.all() else index[full], counts[top].dtype.type(1))
    short = np.flatnonzero((run > 0) & ~full)
    for order in range(top if len(short) else 0):
        kmers = index[short[run[short] == order + 1]] & (4 ** (order + 1) - 1)
        np.add.at(counts[order], kmers, counts[order].dtype.type(1))


def _kmers(codes: np.ndarray, context: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack the (order + 1)-mer that ends at each position of codes[context:].

    Returns:
        index: (n,) int64, last letter least significant, so that `index & (4 ** (k + 1) - 1)` is the order-k k-mer.
        run: (n,) int64, number of bases in a row that end here within codes; 0 where the letter is no base.
    """
    is_base = codes < 4
    clean = np.where(is_base, codes, 0).astype(np.int64)
    index = clean.copy()
    for lag in range(1, order + 1):
        index[lag:] |= clean[:-lag] << (2 * lag)
    position = np.arange(len(codes))
    run = position - np.maximum.accumulate(np.where(is_base, -1, position))
    return index[context:], run[context:]
