"""A mixture of Markov models: the best that counting predicts, and the baseline that a causal language model must beat.

Compressors of DNA mix models of many orders by a small network that learns which of them to trust (GeCo3: Silva et al.
2020, doi:10.1093/gigascience/giaa119). Here the letter x has the probability

    p(x) = softmax over letters of  sum_k w_k · log p_k(x)

where p_k is the order-k model and the weights w are a hidden layer's answer to two questions about each order: how
often its context was seen in training, and how well it did on the 16 and the 64 letters before. The latter tells
repeats from unique sequence. Counts are those of training and stay so: nothing is learnt from what is measured.

The network learns from training letters whose own occurrence is taken out of the counts, so that it meets contexts as
held-out sequence will.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from genolm.genome.alphabet import BASE_INDEX
from genolm.metrics.markov import MarkovLadder, blocks, fit, pack

MIXED_ORDERS = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 16)
RECENT = (16, 64)
"""Letters over which an order's last predictions are averaged."""
HIDDEN, BATCH, EPOCHS, RATE = 32, 4096, 4, 1e-2
TRAINING_LETTERS, STRETCH = 1 << 20, 4096
"""How many letters the network learns from at most, and how many of them follow each other."""


@dataclass(frozen=True)
class MarkovMixture:
    """A fitted mixture.

    Attributes:
        ladder: counts of `MIXED_ORDERS`.
        weights: of the network, with K orders and H hidden units: (3 K, H), (H,), (H, K), (K,), float32.
    """

    ladder: MarkovLadder
    weights: tuple[np.ndarray, ...]

    def bits(self, letters: np.ndarray) -> np.ndarray:
        """Score every letter of one piece.

        Args:
            letters: shape (length,), dtype uint8. Case is ignored.

        Returns:
            -log2 p(letter | letters before it), shape (length,), float32; NaN where the letter is not A, C, G or T.
        """
        found = np.full(len(letters), np.nan, dtype=np.float32)
        for start, end, context in blocks(len(letters), LOOK_BACK):
            logs, about, codes = _asked(self.ladder, BASE_INDEX[letters[start - context : end]], context)
            known = np.flatnonzero(codes < 4)
            _, _, p = _forward(self.weights, logs[known], about[known])
            found[start + known] = -np.log2(p[np.arange(len(known)), codes[known]])
        return found

    def bits_per_base(self, pieces: Iterable[np.ndarray]) -> float:
        """Average bits per A, C, G or T over pieces; contexts never cross from one to the next. NaN without a base."""
        total, num_bases = 0.0, 0
        for letters in pieces:
            bits = self.bits(letters)
            total += float(np.nansum(bits, dtype=np.float64))
            num_bases += int(np.isfinite(bits).sum())
        return total / num_bases if num_bases else float("nan")


LOOK_BACK = max(RECENT) + max(MIXED_ORDERS)


def fit_mixture(pieces: Sequence[np.ndarray], seed: int = 0) -> MarkovMixture:
    """Count k-mers of both strands, and learn how to mix their models.

    Time and memory are those of `markov.fit` with orders up to 16: half a minute and 2 GB for 10 Mb.

    Args:
        pieces: letters arrays of the training sequences, each shape (length,), dtype uint8, any case.
        seed: of the letters that the network learns from, and of its first weights.

    Returns:
        The fitted mixture.
    """
    ladder = fit(pieces, MIXED_ORDERS)
    random = np.random.default_rng(seed)
    starts = [(piece, start) for piece, letters in enumerate(pieces) for start in range(0, len(letters), STRETCH)]
    chosen = random.permutation(len(starts))[: TRAINING_LETTERS // STRETCH]
    parts = []
    for piece, start in (starts[i] for i in sorted(chosen)):
        context = min(start, LOOK_BACK)
        parts.append(_asked(ladder, BASE_INDEX[pieces[piece][start - context : start + STRETCH]], context, seen=True))
    weights = _first_weights(random)
    if parts:
        logs, about, codes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        known = codes < 4
        weights = _learn(weights, logs[known], about[known], codes[known], random)
    return MarkovMixture(ladder, weights)


def _asked(
    ladder: MarkovLadder, codes: np.ndarray, context: int, seen: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the network is shown of each letter of codes[context:].

    Args:
        ladder: the counts.
        codes: (length,) uint8 as in `markov.pack`.
        context: letters that are looked back at only.
        seen: the letters were counted, and one occurrence of each is to be left out.

    Returns:
        logs: (n, K, 4) float32, log p_k of each letter.
        about: (n, 3 K) float32, log(1 + times the context was seen), and how well each order did just before.
        codes: (n,) the letters.
    """
    index, run = pack(codes, 0, MIXED_ORDERS[-1])
    known = np.flatnonzero(codes < 4)
    logs = np.empty((len(codes), len(MIXED_ORDERS), 4), dtype=np.float32)
    times, own = (np.zeros((len(codes), len(MIXED_ORDERS)), dtype=np.float32) for _ in range(2))
    for k, order in enumerate(MIXED_ORDERS):
        # A letter's context is what stands before it, whatever the letter: after N there is none.
        before = np.concatenate([[0], np.minimum(run[:-1], order)])
        full = np.flatnonzero(before == order)
        contexts = np.concatenate([[0], index[:-1]])[full] & (4**order - 1)
        counts = np.zeros((len(codes), 4), dtype=np.float32)
        counts[full] = ladder.after(order, contexts)
        if seen:
            mine = full[codes[full] < 4]
            kmers = index[mine] & (4 ** (order + 1) - 1)
            # A k-mer that is its own reverse complement was counted on both strands.
            counts[mine, codes[mine]] -= 1 + (kmers == _reverse_complements(kmers, order + 1))
        alpha = 1.0 if order <= 8 else 1 / 16
        total = counts.sum(axis=1)
        logs[:, k] = np.log((counts + alpha) / (total + 4 * alpha)[:, None])
        times[:, k] = np.log1p(total)
        own[known, k] = logs[known, k, codes[known]] + np.log(4)
    sums = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0, dtype=np.float64)])
    here = np.arange(context, len(codes))
    recent = [(sums[here] - sums[np.maximum(here - length, 0)]) / length for length in RECENT]
    return logs[context:], np.concatenate([times[context:], *recent], axis=1, dtype=np.float32), codes[context:]


def _reverse_complements(kmers: np.ndarray, length: int) -> np.ndarray:
    found = np.zeros_like(kmers)
    for place in range(length):
        found = found << 2 | (3 - (kmers >> 2 * place & 3))
    return found


def _first_weights(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    orders = len(MIXED_ORDERS)
    inner = random.normal(0, 1 / np.sqrt(3 * orders), (3 * orders, HIDDEN)).astype(np.float32)
    return (
        inner,
        np.zeros(HIDDEN, dtype=np.float32),
        np.zeros((HIDDEN, orders), dtype=np.float32),
        np.full(orders, 1 / orders, dtype=np.float32),
    )


def _forward(weights: tuple[np.ndarray, ...], logs: np.ndarray, about: np.ndarray):
    """Return hidden units (n, H), weights of the orders (n, K), and probabilities of the letters (n, 4)."""
    inner, inner_bias, outer, outer_bias = weights
    hidden = np.tanh(about @ inner + inner_bias)
    trust = hidden @ outer + outer_bias
    mixed = np.einsum("nk,nkx->nx", trust, logs)
    p = np.exp(mixed - mixed.max(axis=1, keepdims=True))
    return hidden, trust, p / p.sum(axis=1, keepdims=True)


def _learn(
    weights: tuple[np.ndarray, ...],
    logs: np.ndarray,
    about: np.ndarray,
    codes: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """Minimise the cross-entropy of the letters by Adam, its rate falling to 0 in a straight line."""
    weights = tuple(weight.copy() for weight in weights)
    first, second = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
    batches = -(-len(codes) // BATCH)
    steps = EPOCHS * batches
    for step in range(steps):
        if step % batches == 0:
            order = random.permutation(len(codes))
        rows = order[step % batches * BATCH :][:BATCH]
        hidden, _, p = _forward(weights, logs[rows], about[rows])
        p[np.arange(len(rows)), codes[rows]] -= 1
        trust = np.einsum("nx,nkx->nk", p, logs[rows]) / len(rows)
        inner = (trust @ weights[2].T) * (1 - hidden**2)
        slopes = about[rows].T @ inner, inner.sum(axis=0), hidden.T @ trust, trust.sum(axis=0)
        for weight, slope, mean, square in zip(weights, slopes, first, second, strict=True):
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope**2 - square)
            rate = RATE * (1 - step / steps) * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            weight -= rate * mean / (np.sqrt(square) + 1e-8)
    return weights
