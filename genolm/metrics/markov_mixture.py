"""A mixture of Markov models: the best that counting predicts, and the baseline that a causal language model must beat.

Compressors of DNA mix models of many orders by a small network that learns which of them to trust (GeCo3: Silva et al.
2020, doi:10.1093/gigascience/giaa119). Here base x has the probability

    p(x) = softmax over bases of  sum_k w_k · log p_k(x)

where p_k is the order-k model and the weights w are computed by a network with one hidden layer from two features of
each order: how often its context was seen in training, and how well it predicted the 16 and the 64 bases before. The
latter separates repeats from unique sequence. Counts are those of training and stay so: nothing is learnt from the
sequence that is measured.

The network learns from training bases whose own occurrence is left out of the counts, so that it meets contexts as
held-out sequence will.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genolm.genome.alphabet import BASE_INDEX
from genolm.metrics.markov import MarkovLadder, blocks, fit, pack

if TYPE_CHECKING:
    import torch

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
    """Count k-mers of both strands, and learn how to mix the models of all orders.

    Time and memory are those of `markov.fit` with orders up to 16: half a minute and 2 GB for 10 Mb.

    Args:
        sequences: the training sequences, each shape (length,), dtype uint8, any case.
        seed: of the stretches that the network learns from, of their order, and of its first weights.
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
    """Return what the mixture reads at each base of codes[context:], codes and context as in `markov.pack`.

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
