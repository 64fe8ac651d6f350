"""Markov models of order k with inverted repeats: what k-mer counts alone predict, the baseline of language models.

The order-k model gives base x after the k bases c before it the probability

    p(x | c) = (n(c x) + alpha) / (n(c) + 4 alpha)

where n counts both strands of the training sequences. Near the start of a sequence, or after a letter other than A, C,
G, T, fewer than k bases of context exist: there the longest context available is used, in counting and in scoring
alike, so that every base is counted at every order and no context crosses a gap or the end of a sequence.

Cost: one pass over the training sequences fills the highest order up to 12, and each lower order is a sum of the one
above it. Memory is the counts, 4^(k+1) · 4/3 numbers (0.4 GB at k = 12), and a block of bases. Orders above 12 list
the k-mers that occur instead: up to 24 bytes per training base and order, and 18 more while they are counted.

A mixture of them is the best that counting predicts, and the baseline that a causal language model must beat.
Compressors of DNA mix models of many orders by a small network that learns which of them to trust (GeCo3: Silva et al.
2020, doi:10.1093/gigascience/giaa119). Here

    p(x) = softmax over bases of  sum_k w_k · log p_k(x)

where p_k is the order-k model and the weights w are computed by a network with one hidden layer from two features of
each order: how often its context was seen in training, and how well it predicted the 16 and the 64 bases before. The
latter separates repeats from unique sequence. Nothing is learnt from the sequence that is measured. The network learns
from training bases whose own occurrence is left out of the counts, so that it meets contexts as held-out sequence will.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genolm.genome.alphabet import BASE_INDEX

if TYPE_CHECKING:
    import torch

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


MIXED_ORDERS = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 16)
RECENT = (16, 64)
"""Numbers of bases over which an order's last predictions are averaged."""
LOOK_BACK = max(RECENT) + max(MIXED_ORDERS)
HIDDEN, BATCH, EPOCHS, RATE = 32, 4096, 4, 1e-2
TRAINING_BASES, STRETCH = 1 << 20, 4096
"""Number of bases that the network learns from at most, in stretches of this length."""


@dataclass(frozen=True)
class MarkovMixture:
    """Counts of `MIXED_ORDERS`, and the network from features (n, 3 K) to weights of the K orders (n, K)."""

    ladder: MarkovLadder
    network: "torch.nn.Module"

    def bits(self, sequence: np.ndarray) -> np.ndarray:
        """Return -log2 p(base | bases before it) of a sequence, uint8 (length,) in any case.

        Values are float32 (length,), NaN where the letter is not A, C, G or T.
        """
        import torch

        bits = np.full(len(sequence), np.nan, dtype=np.float32)
        for start, end, context in blocks(len(sequence), LOOK_BACK):
            log_p, features, codes = _inputs(self.ladder, BASE_INDEX[sequence[start - context : end]], context)
            with torch.no_grad():
                nats = _nats(self.network, *_tensors(log_p, features, codes), reduction="none")
            bits[start + np.flatnonzero(codes < 4)] = nats.numpy() / np.log(2)
        return bits

    def bits_per_base(self, sequences: Iterable[np.ndarray]) -> float:
        """Return average bits per A, C, G or T over all sequences, NaN without a base."""
        total, num_bases = 0.0, 0
        for sequence in sequences:
            bits = self.bits(sequence)
            total += float(np.nansum(bits, dtype=np.float64))
            num_bases += int(np.isfinite(bits).sum())
        return total / num_bases if num_bases else float("nan")


def fit_mixture(sequences: Sequence[np.ndarray], seed: int = 0) -> MarkovMixture:
    """Count k-mers of both strands of sequences as in `fit`, and learn how to mix the models of all orders.

    Time and memory are those of `fit` with orders up to 16: half a minute and 2 GB for 10 Mb. `seed` decides which
    stretches the network learns from, their order, and its first weights.
    """
    ladder = fit(sequences, MIXED_ORDERS)
    random = np.random.default_rng(seed)
    starts = [(i, start) for i, sequence in enumerate(sequences) for start in range(0, len(sequence), STRETCH)]
    chosen = random.permutation(len(starts))[: TRAINING_BASES // STRETCH]
    parts = []
    for i, start in (starts[number] for number in sorted(chosen)):
        context = min(start, LOOK_BACK)
        codes = BASE_INDEX[sequences[i][start - context : start + STRETCH]]
        parts.append(_inputs(ladder, codes, context, leave_one_out=True))
    network = _new_network(random)
    if parts:
        log_p, features, codes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        _train(network, *_tensors(log_p, features, codes), random=random)
    return MarkovMixture(ladder, network)


def _inputs(
    ladder: MarkovLadder, codes: np.ndarray, context: int, leave_one_out: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the mixture reads at each base of codes[context:], codes and context as in `pack`.

    `leave_one_out` subtracts one occurrence of each base, where it was counted in training.

    Returns:
        log_p: (n, K, 4) float32, log p_k of each base.
        features: (n, 3 K) float32, log(1 + times the context was seen), and how well each order did just before.
        codes: (n,) the bases.
    """
    index, run = pack(codes, 0, MIXED_ORDERS[-1])
    is_base = np.flatnonzero(codes < 4)
    log_p = np.empty((len(codes), len(MIXED_ORDERS), 4), dtype=np.float32)
    times, own = (np.zeros((len(codes), len(MIXED_ORDERS)), dtype=np.float32) for _ in range(2))
    # The context is what precedes the base, whatever the base is: after N there is none.
    contexts, available = np.concatenate([[0], index[:-1]]), np.concatenate([[0], run[:-1]])
    for k, order in enumerate(MIXED_ORDERS):
        full = np.flatnonzero(available >= order)
        counts = np.zeros((len(codes), 4), dtype=np.float32)
        counts[full] = ladder.next_base_counts(order, contexts[full] & (4**order - 1))
        if leave_one_out:
            counted = full[codes[full] < 4]
            kmers = index[counted] & (4 ** (order + 1) - 1)
            # A k-mer that is its own reverse complement was counted on both strands.
            counts[counted, codes[counted]] -= 1 + (kmers == _reverse_complements(kmers, order + 1))
        alpha = 1.0 if order <= 8 else 1 / 16
        total = counts.sum(axis=1)
        log_p[:, k] = np.log((counts + alpha) / (total + 4 * alpha)[:, None])
        times[:, k] = np.log1p(total)
        own[is_base, k] = log_p[is_base, k, codes[is_base]] + np.log(4)
    sums = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0, dtype=np.float64)])
    here = np.arange(context, len(codes))
    recent = [(sums[here] - sums[np.maximum(here - length, 0)]) / length for length in RECENT]
    return log_p[context:], np.concatenate([times[context:], *recent], axis=1, dtype=np.float32), codes[context:]


def _reverse_complements(kmers: np.ndarray, length: int) -> np.ndarray:
    """Return packed k-mers (n,) of the other strand."""
    other = np.zeros_like(kmers)
    for place in range(length):
        other = other << 2 | (3 - (kmers >> 2 * place & 3))
    return other


def _tensors(log_p: np.ndarray, features: np.ndarray, codes: np.ndarray) -> tuple["torch.Tensor", ...]:
    """Return the rows of `_inputs` whose letter is a base, as tensors."""
    import torch

    is_base = codes < 4
    return tuple(torch.from_numpy(rows[is_base]) for rows in (log_p, features, codes.astype(np.int64)))


def _new_network(random: np.random.Generator) -> "torch.nn.Module":
    """Return a network that weights all orders equally, whatever the features."""
    import torch

    num = len(MIXED_ORDERS)
    first = random.normal(0, 1 / np.sqrt(3 * num), (3 * num, HIDDEN)).astype(np.float32).T
    network = torch.nn.Sequential(
        torch.nn.utils.skip_init(torch.nn.Linear, 3 * num, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.utils.skip_init(torch.nn.Linear, HIDDEN, num),
    )
    values = first, np.zeros(HIDDEN), np.zeros((num, HIDDEN)), np.full(num, 1 / num)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return network


def _nats(network, log_p, features, codes, reduction: str) -> "torch.Tensor":
    """Return -log p of the bases under the mixture: of each, or their mean."""
    import torch

    mixed = torch.einsum("nk,nkx->nx", network(features), log_p)
    return torch.nn.functional.cross_entropy(mixed, codes, reduction=reduction)


def _train(network, log_p, features, codes, *, random: np.random.Generator) -> None:
    """Minimise the cross-entropy of the bases by Adam, its rate falling to 0 in a straight line."""
    import torch

    steps = EPOCHS * -(-len(codes) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(EPOCHS):
        for rows in torch.from_numpy(random.permutation(len(codes))).split(BATCH):
            loss = _nats(network, log_p[rows], features[rows], codes[rows], reduction="mean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
