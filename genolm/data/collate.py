"""Examples to batches: what is hidden, what is predicted, and what it weighs.

A collator takes sample numbers, not examples: all its work is vectorised over the batch, and everything random is
f(seed, sample, position). `labels` is -100 wherever nothing is predicted; `loss_weight` is 0 there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genolm.data import rng
from genolm.data.corpus import Corpus, Examples
from genolm.data.stream import StreamCorpus
from genolm.tokenizers.encode import Encoder

if TYPE_CHECKING:
    import torch

STREAM_MASK, STREAM_RANDOM = 16, 17
IGNORED = -100
MASKED, REPLACED, KEPT = 1, 2, 3


def span_offsets(span: int) -> range:
    """Tokens around a span's centre: DNABERT's spread, -2…3 for six, -1…1 for three.

    Source: DNABERT `run_pretrain.py`, MASK_LIST.
    """
    return range(-((span - 1) // 2), span // 2 + 1)


def _shifted(array: np.ndarray, by: int) -> np.ndarray:
    """Move columns right by `by` (left if negative), filling with 0."""
    out = np.zeros_like(array)
    if by > 0:
        out[:, by:] = array[:, :-by]
    elif by < 0:
        out[:, :by] = array[:, -by:]
    else:
        out[:] = array
    return out


class Masking:
    """Chooses which tokens are hidden, and how.

    A centre is drawn at every token with probability 1 - (1 - rate)^(1/span), which hides `rate` of all tokens, and
    its span around it is hidden too. A span is treated as one (mask, random, or kept): with overlapping k-mers
    neighbours share bases, so a span of k with mixed treatment would show the base it hides.

    Args:
        encoder: gives the mask token, which tokens are nucleotides, and their number.
        rate: share of nucleotide tokens to predict.
        mask_token_rate: share of those replaced by the mask token.
        random_token_rate: share of those replaced by a random nucleotide token; the rest is kept.
        span: tokens hidden together; by default k for overlapping k-mers and 1 for all others.
    """

    def __init__(
        self,
        encoder: Encoder,
        rate: float = 0.15,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        span: int | None = None,
    ):
        if encoder.mask_id is None:
            raise ValueError("the tokenizer has no mask token; use objective.kind=causal or another tokenizer")
        span = span or (encoder.k if encoder.kind == "kmer-overlapping" else 1)
        self.mask_id, self.span = encoder.mask_id, span
        self.nucleotide_ids = np.asarray(encoder.nucleotide_ids, dtype=np.int64)
        self.is_nucleotide = np.zeros(encoder.vocab_size, dtype=bool)
        self.is_nucleotide[self.nucleotide_ids] = True
        centre = 1 - (1 - rate) ** (1 / span)
        # Thresholds on one 32-bit number: below the first → mask token, then random, then kept.
        shares = np.array([mask_token_rate, mask_token_rate + random_token_rate, 1.0])
        self._thresholds = np.minimum(np.round(centre * shares * 2.0**32), 2.0**32 - 1).astype(np.uint32)

    def __call__(self, seed: int, samples: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hide tokens.

        Args:
            seed: with `samples`, decides every draw.
            samples: (B,) sample numbers.
            ids: (B, L) int64.

        Returns:
            (B, L) int64 ids to show the model, and (N,) int64: tokens to predict, as places in the flattened ids.
        """
        draw = rng.words32(seed, STREAM_MASK, samples, ids.shape[1])
        if self.span == 1:
            # Only what is drawn, about one in seven, is looked at again.
            places = np.flatnonzero(draw < self._thresholds[2])
            places = places[self.is_nucleotide[ids.ravel()[places]]]
            treatment = self._treatment(draw.ravel()[places])
        else:
            centres = self._treatment(draw) * self.is_nucleotide[ids]
            spread = np.zeros_like(centres)
            for offset in span_offsets(self.span):
                moved = _shifted(centres, offset)
                np.copyto(spread, moved, where=moved > 0)
            spread *= self.is_nucleotide[ids]
            places = np.flatnonzero(spread)
            treatment = spread.ravel()[places]
        shown = ids.copy()
        shown.ravel()[places[treatment == MASKED]] = self.mask_id
        replaced = places[treatment == REPLACED]
        rows, columns = np.divmod(replaced, ids.shape[1])
        word = rng.words_at(seed, STREAM_RANDOM, samples[rows], columns)
        shown.ravel()[replaced] = self.nucleotide_ids[(word % np.uint64(len(self.nucleotide_ids))).astype(np.int64)]
        return shown, places

    def _treatment(self, draw: np.ndarray) -> np.ndarray:
        """Return what becomes of tokens with these draws: uint8, MASKED, REPLACED, KEPT, or 0 for not predicted."""
        treatment = (draw < self._thresholds[2]).view(np.uint8) * np.uint8(KEPT)
        treatment -= (draw < self._thresholds[1]).view(np.uint8)
        treatment -= (draw < self._thresholds[0]).view(np.uint8)
        return treatment


def hide_all(encoder: Encoder, rate: float, span: int | None = None) -> Masking:
    """Return the masking of an evaluation: every chosen token is hidden.

    Where training shows some of them as they are, or replaced, a model's bits would tell of that mixture instead.
    """
    return Masking(encoder, rate, mask_token_rate=1.0, random_token_rate=0.0, span=span)


def _tensors(ids, labels, weight, attention_mask=None) -> dict[str, "torch.Tensor"]:
    import torch

    batch = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "loss_weight": torch.from_numpy(weight),
    }
    if attention_mask is not None:
        batch["attention_mask"] = torch.from_numpy(attention_mask)
    return batch


class MaskedCollator:
    """Sample numbers → masked language model batch; an attention mask only where rows can be padded."""

    def __init__(self, corpus: Corpus | StreamCorpus, masking: Masking):
        self.corpus, self.masking = corpus, masking

    def __call__(self, samples: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """Return `input_ids`, `labels` (int64) and `loss_weight` (float32), each (B, L)."""
        numbers = np.asarray(samples, dtype=np.int64)
        examples = self.corpus.examples(numbers)
        shown, places = self.masking(self.corpus.seed, numbers, examples.ids)
        labels, weight = np.full(shown.shape, IGNORED), np.zeros(shown.shape, dtype=np.float32)
        labels.ravel()[places] = examples.ids.ravel()[places]
        weight.ravel()[places] = examples.weight.ravel()[places]
        return _tensors(shown, labels, weight, _attention_mask(examples) if self.corpus.may_pad else None)


class CausalCollator:
    """Sample numbers → causal language model batch.

    `labels` stand at their own place, as transformers' causal models want them; the first token of a row, which
    nothing predicts, carries no label. Padding is on the right, where a causal model never looks, so there is no mask.
    """

    def __init__(self, corpus: Corpus | StreamCorpus):
        self.corpus = corpus

    def __call__(self, samples: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """Return `input_ids`, `labels` (int64) and `loss_weight` (float32), each (B, L)."""
        examples = self.corpus.examples(np.asarray(samples, dtype=np.int64))
        weight = examples.weight
        weight[:, 0] = 0.0
        return _tensors(examples.ids, np.where(weight > 0, examples.ids, IGNORED), weight)


def _attention_mask(examples: Examples) -> np.ndarray:
    return (np.arange(examples.ids.shape[1]) < examples.length[:, None]).astype(np.int64)
