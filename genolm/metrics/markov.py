"""Markov models of order k with inverted repeats: what k-mer counts alone predict, the baseline of language models.

The order-k model gives letter x after the k letters c before it the probability

    p(x | c) = (n(c x) + alpha) / (n(c) + 4 alpha)

where n counts both strands of the training pieces. Near the start of a piece, or after a letter other than A, C, G, T,
fewer than k letters of context exist: there the longest context available is used, in counting and in scoring alike,
so that every base is counted at every order and no context reaches over a gap or from one piece into the next.

Cost: one pass over the training letters fills the highest order up to 12, and each lower order is a sum of the one
above it. Memory is the counts, 4^(k+1) · 4/3 numbers (0.4 GB at k = 12), and a block of letters. Orders above 12 list
the k-mers that occur instead: up to 24 bytes a training base and order, and 18 more while they are counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genolm.genome.alphabet import BASE_INDEX

MAX_ORDER = 16
DENSE_ORDER = 12
"""Up to here every k-mer has a number, whether it occurs or not."""
ALPHA = 1.0
BLOCK_BASES = 1 << 20


@dataclass(frozen=True)
class ListedCounts:
    """Counts of the (k + 1)-mers that occur, for orders whose tables would be mostly zeros.

    Attributes:
        kmers: (n,) int64, ascending, packed as MarkovLadder.counts are indexed.
        counts: (n,) uint32.
    """

    kmers: np.ndarray
    counts: np.ndarray

    def after(self, contexts: np.ndarray) -> np.ndarray:
        """Return (n, 4) counts of the letters after packed contexts, shape (n,)."""
        # Ascending look-ups stay in the processor's cache, which is worth a sort.
        order = np.argsort(contexts)
        first = contexts[order] * 4
        place = np.searchsorted(self.kmers, first)
        found = np.zeros((len(first), 4), dtype=np.uint32)
        for step in range(4):
            here = np.flatnonzero(place + step < len(self.kmers))
            letter = self.kmers[place[here] + step] - first[here]
            hit = letter < 4
            found[here[hit], letter[hit]] = self.counts[place[here[hit]] + step]
        unsorted = np.empty_like(found)
        unsorted[order] = found
        return unsorted


@dataclass(frozen=True)
class MarkovLadder:
    """Markov models of orders 0 … K fitted on the same letters.

    Attributes:
        orders: the orders asked for, ascending.
        alpha: pseudo-count of each letter in each context.
        counts: counts[k], shape (4 ** (k + 1),): number of times each (k + 1)-mer was seen on either strand. The index
            is the (k + 1)-mer in base 4, first letter most significant, A, C, G, T = 0, 1, 2, 3.
        listed: the same of the orders above 12 that were asked for.
    """

    orders: tuple[int, ...]
    alpha: float
    counts: tuple[np.ndarray, ...]
    listed: dict[int, ListedCounts]

    @property
    def held(self) -> tuple[int, ...]:
        """Orders that have counts, ascending."""
        return (*range(len(self.counts)), *self.listed)

    def after(self, order: int, contexts: np.ndarray) -> np.ndarray:
        """Return how often each letter was seen after some contexts.

        Args:
            order: one of `held`.
            contexts: (n,) int64, `order` letters each, packed as `counts` are indexed.

        Returns:
            (n, 4), unsigned or signed integers.
        """
        if order in self.listed:
            return self.listed[order].after(contexts)
        return self.counts[order].reshape(-1, 4)[contexts]

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
        for start, end, context in blocks(len(letters), self.held[-1]):
            yield start, end, self._bits_of(BASE_INDEX[letters[start - context : end]], context)

    def _bits_of(self, codes: np.ndarray, context: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (order, bits of codes[context:]), ascending, each order falling back to the one below it."""
        index, run = pack(codes, context, self.held[-1])
        values = np.full(len(index), np.nan)
        for order, above in zip(self.held, (*self.held[1:], 0), strict=True):
            asked = order in self.orders
            # Of an order not asked for, only the letters whose context is too short for the next are needed.
            chosen = np.flatnonzero(run > order if asked else (run > order) & (run <= above))
            kmers = index[chosen] & (4 ** (order + 1) - 1)
            after = self.after(order, kmers >> 2)
            seen = after[np.arange(len(kmers)), kmers & 3] + self.alpha
            values[chosen] = np.log2(after.sum(axis=1) + 4 * self.alpha) - np.log2(seen)
            if asked:
                yield order, values.copy()


def fit(
    pieces: Iterable[np.ndarray], orders: Sequence[int] = range(DENSE_ORDER + 1), alpha: float = ALPHA
) -> MarkovLadder:
    """Count the k-mers of both strands of training sequences.

    Args:
        pieces: letters arrays, each shape (length,), dtype uint8, any case; read once, one at a time.
        orders: orders to report, each 0 … 16.
        alpha: pseudo-count added to each letter in each context, above 0.

    Returns:
        The fitted models.

    Raises:
        ValueError: no order, an order outside 0 … 16, or alpha not above 0.
    """
    wanted = tuple(sorted({int(order) for order in orders}))
    if not wanted or wanted[0] < 0 or wanted[-1] > MAX_ORDER:
        raise ValueError(f"Markov orders are {list(orders)}; give at least one, each from 0 to {MAX_ORDER}")
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0, or a k-mer never seen in training has no likelihood")
    dense, top = min(wanted[-1], DENSE_ORDER), wanted[-1]
    # 32 bits hold the count of any 11-mer of any genome, and halve the largest tables.
    counts = [np.zeros(4 ** (k + 1), dtype=np.uint32 if k >= 10 else np.int64) for k in range(dense + 1)]
    packed: list[tuple[np.ndarray, np.ndarray]] = []
    for letters in pieces:
        for start, end, left in blocks(len(letters), top):
            right = min(end + top, len(letters)) - end
            forward = BASE_INDEX[letters[start - left : end]]
            reverse = _COMPLEMENT_CODE[BASE_INDEX[letters[start : end + right][::-1]]]
            for codes, context in ((forward, left), (reverse, right)):
                index, run = pack(codes, context, top)
                _count(counts, index, run)
                if top > dense:
                    packed.append((index, np.minimum(run, top + 1).astype(np.uint8)))
    for order in range(dense, 0, -1):
        counts[order - 1] += counts[order].reshape(4, -1).sum(axis=0, dtype=counts[order - 1].dtype)
    listed = {order: _listed(packed, order) for order in wanted if order > dense}
    return MarkovLadder(wanted, float(alpha), tuple(counts), listed)


def blocks(length: int, order: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, number of letters before start to look back at) of blocks of a sequence."""
    for start in range(0, length, BLOCK_BASES):
        yield start, min(start + BLOCK_BASES, length), min(start, order)


_COMPLEMENT_CODE = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


def _count(counts: list[np.ndarray], index: np.ndarray, run: np.ndarray) -> None:
    """Add each base once, at the highest order of `counts` that its context allows."""
    top = len(counts) - 1
    full = run > top
    kmers = index if full.all() else index[full]
    np.add.at(counts[top], kmers & (4 ** (top + 1) - 1), counts[top].dtype.type(1))
    short = np.flatnonzero((run > 0) & ~full)
    for order in range(top if len(short) else 0):
        kmers = index[short[run[short] == order + 1]] & (4 ** (order + 1) - 1)
        np.add.at(counts[order], kmers, counts[order].dtype.type(1))


def _listed(parts: list[tuple[np.ndarray, np.ndarray]], order: int) -> ListedCounts:
    """Count the (order + 1)-mers of packed blocks, each (index, run) of `pack`."""
    found = [index[run > order] & (4 ** (order + 1) - 1) for index, run in parts]
    kmers, counts = np.unique(np.concatenate(found) if found else np.zeros(0, dtype=np.int64), return_counts=True)
    return ListedCounts(kmers, counts.astype(np.uint32))


def pack(codes: np.ndarray, context: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack the (order + 1)-mer that ends at each position of codes[context:].

    Args:
        codes: (length,) uint8, 0 … 3 for A, C, G, T, and 4 for any other letter.
        context: number of codes that are looked back at only.
        order: at most 30.

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
