"""Negative log-likelihoods of the tokens of evaluation windows, from which bits per base are computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from genolm.data.corpus import base_weights, encode_rows
from genolm.data.masking import Masking
from genolm.genome.store import Store
from genolm.inference.batches import run_batches
from genolm.tokenizers.encode import Encoder


@dataclass(frozen=True)
class TokenNLL:
    """Negative log-likelihoods of tokens, in genome order within each window.

    Attributes:
        nats: (N,) float64, -ln p of the token.
        bases: (N,) float64, bases the token accounts for; they sum to the bases scored.
        contig: (N,) int64.
        position: (N,) int64, the last base of the token, 0-based.
    """

    nats: np.ndarray
    bases: np.ndarray
    contig: np.ndarray
    position: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence["TokenNLL"]) -> "TokenNLL":
        """Join parts in their order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def on_other_strand(self, lengths: np.ndarray) -> "TokenNLL":
        """Return the same tokens at positions of the other strand, for contigs of these lengths."""
        return replace(self, position=lengths[self.contig] - 1 - self.position)


def score_windows(
    model: torch.nn.Module,
    encoder: Encoder,
    store: Store,
    windows: np.ndarray,
    *,
    masking: Masking | None = None,
    seed: int = 0,
    soft_masked_weight: float = 1.0,
    batch_size: int = 32,
    **options: Any,
) -> Iterator[tuple[int, TokenNLL]]:
    """Score windows on their forward strand, and yield each batch's number and scores.

    A token that starts before the scored part counts for its fraction of bases in it.

    Args:
        model: a causal or masked language model; its mode and device are left as they are.
        encoder: sequence → ids.
        store: the genomes.
        windows: (N, 4) int64 as `genolm.genome.regions.Regions.tile` gives.
        masking: masks tokens for a masked model, by (seed, window number); None for a causal model.
        seed: of the masks.
        soft_masked_weight: 0 leaves lower-case bases out.
        batch_size: windows in a forward pass.
        options: `autocast`, `progress`, `rank` and `num_ranks` of `genolm.inference.batches.run_batches`.
    """
    weights = (base_weights(soft_masked_weight) > 0).astype(np.float32)

    def forward(numbers: range, device: torch.device) -> TokenNLL:
        rows = windows[numbers.start : numbers.stop]
        sequences, lengths = _sequences(store, rows)
        encoded = encoder.encode_batch(sequences, lengths=lengths)
        weight = encode_rows(encoder, sequences, lengths, weights).weight
        if masking is None:
            masked_ids, predicted = encoded.ids, weight > 0
            predicted[:, 0] = False
        else:
            masked_ids, target_positions = masking(seed, np.arange(numbers.start, numbers.stop), encoded.ids)
            predicted = np.zeros(masked_ids.shape, dtype=bool)
            predicted.ravel()[target_positions] = weight.ravel()[target_positions] > 0
        mask = (np.arange(masked_ids.shape[1]) < encoded.length[:, None]).astype(np.int64)
        padded = masking is not None and not mask.all()
        nats = _nats(model, masked_ids, encoded.ids, masking is None, mask if padded else None, device)
        bases = _bases(encoder, encoded.start, encoded.end, rows, predicted, masking is not None)
        fraction = _scored_fraction(encoder, encoded.start, encoded.end, rows)
        keep = predicted & (fraction > 0)
        row, column = np.nonzero(keep)
        return TokenNLL(
            nats=(nats * fraction)[keep].astype(np.float64),
            bases=bases[keep].astype(np.float64),
            contig=rows[row, 0],
            position=rows[row, 1] + encoded.end[row, column] - 1,
        )

    batches = [range(i, min(i + batch_size, len(windows))) for i in range(0, len(windows), batch_size)]
    return run_batches(model, batches, forward, unit="window", **options)


def fit_windows(
    encoder: Encoder, store: Store, windows: np.ndarray, max_tokens: int, batch_size: int = 256
) -> np.ndarray:
    """Cut windows that give more tokens than the model was trained on into ones that do not.

    The number of tokens depends on the sequence, with BPE and where k-mers meet other letters. Positions beyond those
    of training would cost a model bits, or do not exist. The scored parts still cover the same bases.

    Args:
        encoder: sequence → ids.
        store: the genomes.
        windows: (N, 4) int64 as `Regions.tile` returns.
        max_tokens: tokens of a row in training, special tokens included.
        batch_size: windows to encode at once.

    Returns:
        (M, 4) int64, in the order of the genome; the same windows where all fit.
    """
    done, left = [], windows
    while len(left):
        count = np.concatenate(
            [_num_tokens(encoder, store, left[i : i + batch_size]) for i in range(0, len(left), batch_size)]
        )
        done.append(left[count <= max_tokens])
        contig, start, end, scored = left[count > max_tokens].T
        # Halve the scored part, or, where it is shorter than the context, drop the farther half of the context.
        middle = (scored + end) // 2
        shown = scored - start >= end - scored
        first = np.stack([contig, start, middle, scored], axis=1)[~shown]
        second = np.stack([contig, middle - (end - middle) // 2, end, middle], axis=1)[~shown]
        nearer = np.stack([contig, (start + scored + 1) // 2, end, scored], axis=1)[shown]
        left = np.concatenate([first, second, nearer])
    fitting = np.concatenate([windows[:0], *done])
    return fitting[np.lexsort((fitting[:, 3], fitting[:, 0]))]


def _sequences(store: Store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fetch (B, W) bases and (B,) lengths of windows."""
    lengths = rows[:, 2] - rows[:, 1]
    sequences = np.zeros((len(rows), int(lengths.max())), dtype=np.uint8)
    for row, (contig, start, end, _) in enumerate(rows.tolist()):
        sequences[row, : end - start] = store.fetch(contig, start, end)
    return sequences, lengths


def _num_tokens(encoder: Encoder, store: Store, rows: np.ndarray) -> np.ndarray:
    """Return (B,) tokens of windows, special tokens included."""
    sequences, lengths = _sequences(store, rows)
    encoded = encoder.encode_batch(sequences, lengths, special_tokens=False)
    return (encoded.end > encoded.start).sum(axis=1) + len(encoder.prefix_ids) + len(encoder.suffix_ids)


def _scored_fraction(encoder: Encoder, start: np.ndarray, end: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (B, L): the fraction of each token that lies in its window's scored part."""
    scored_from = (rows[:, 3] - rows[:, 1])[:, None]
    if encoder.kind == "kmer-overlapping":
        return (end - 1 >= scored_from).astype(np.float64)
    inside = np.clip(end - np.maximum(start, scored_from), 0, None)
    return inside / np.maximum(end - start, 1)


def _bases(encoder: Encoder, start, end, rows: np.ndarray, predicted: np.ndarray, masked: bool) -> np.ndarray:
    """Return (B, L): bases a predicted token accounts for.

    An overlapping k-mer adds its last base to those of the tokens before it. Under a mask, a base counts when every
    k-mer that holds it is hidden; the count of a row is spread evenly over its predicted tokens.
    """
    if encoder.kind != "kmer-overlapping":
        return (end - start) * _scored_fraction(encoder, start, end, rows)
    if not masked:
        return (end > start).astype(np.float64)
    bases = np.zeros(start.shape)
    for row in range(len(start)):
        size = int(end[row].max())
        seen, hidden = np.zeros(size + 1, dtype=np.int64), np.zeros(size + 1, dtype=np.int64)
        for target, chosen in ((hidden, predicted[row]), (seen, ~predicted[row] & (end[row] > start[row]))):
            np.add.at(target, start[row][chosen], 1)
            np.add.at(target, end[row][chosen], -1)
        num = int(((np.cumsum(hidden) > 0) & (np.cumsum(seen) == 0)).sum())
        bases[row, predicted[row]] = num / max(1, int(predicted[row].sum()))
    return bases


def _nats(model, masked_ids, ids, causal: bool, mask, device) -> np.ndarray:
    """Return (B, L) float32: -ln p of the token at each position; 0 at the first position of a causal row."""
    inputs = {"input_ids": torch.from_numpy(masked_ids).to(device)}
    if mask is not None:
        inputs["attention_mask"] = torch.from_numpy(mask).to(device)
    logits = model(**inputs).logits.float()
    target = torch.from_numpy(ids).to(device)
    if causal:
        logits, target = logits[:, :-1], target[:, 1:]
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    out = torch.zeros(ids.shape, dtype=torch.float32)
    out[:, 1 if causal else 0 :] = nats.cpu()
    return out.numpy()
