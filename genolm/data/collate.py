"""Choose the tokens that a masked model predicts, and collate examples into batches for masked and causal models.

A collator takes sample numbers, not examples: all its work is vectorised over the batch, and everything random is
f(seed, sample, position). `labels` is -100 wherever nothing is predicted; `loss_weight` is 0 there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genolm.data import rng
from genolm.data.corpus import Corpus, Examples
from genolm.tokenizers.encode import Encoder

if TYPE_CHECKING:
    import torch

    from genolm.data.stream import StreamCorpus

IGNORED = -100
STREAM_MASK, STREAM_RANDOM = 16, 17
MASKED, REPLACED, KEPT = 1, 2, 3


def span_offsets(span: int) -> range:
    """Return the offsets of a span's tokens from its centre, as in DNABERT: -2…3 for six tokens, -1…1 for three.

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
    """Choose the tokens to predict, and replace each by the mask token, a random one or itself.

    A centre is drawn at every token with probability 1 - (1 - rate)^(1/span), which selects `rate` of all tokens, and
    the span around it is selected too. A span is treated as one (mask, random, or kept): with overlapping k-mers
    neighbours share bases, so a span of k with mixed treatment would show the base it hides.

    Args:
        encoder: its mask token and nucleotide tokens are used.
        rate: fraction of nucleotide tokens to predict.
        mask_token_rate: fraction of those replaced by the mask token.
        random_token_rate: fraction of those replaced by a random nucleotide token; the rest is kept.
        span: tokens masked together; by default k for overlapping k-mers and 1 for all others.
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
        fractions = np.array([mask_token_rate, mask_token_rate + random_token_rate, 1.0])
        self._thresholds = np.minimum(np.round(centre * fractions * 2.0**32), 2.0**32 - 1).astype(np.uint32)

    def __call__(self, seed: int, samples: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask a batch; what is drawn depends on the seed, the sample number and the position only.

        Args:
            seed: any integer.
            samples: (B,) sample numbers.
            ids: (B, L) int64.

        Returns:
            (B, L) int64, the masked ids, and (N,) int64, the tokens to predict, as positions in the flattened ids.
        """
        draw = rng.words32(seed, STREAM_MASK, samples, ids.shape[1])
        if self.span == 1:
            # Look again only at what is drawn, about one in seven.
            positions = np.flatnonzero(draw < self._thresholds[2])
            positions = positions[self.is_nucleotide[ids.ravel()[positions]]]
            treatment = self._treatment(draw.ravel()[positions])
        else:
            centres = self._treatment(draw) * self.is_nucleotide[ids]
            spread = np.zeros_like(centres)
            for offset in span_offsets(self.span):
                moved = _shifted(centres, offset)
                np.copyto(spread, moved, where=moved > 0)
            spread *= self.is_nucleotide[ids]
            positions = np.flatnonzero(spread)
            treatment = spread.ravel()[positions]
        masked_ids = ids.copy()
        masked_ids.ravel()[positions[treatment == MASKED]] = self.mask_id
        replaced = positions[treatment == REPLACED]
        rows, columns = np.divmod(replaced, ids.shape[1])
        word = rng.words_at(seed, STREAM_RANDOM, samples[rows], columns)
        choice = (word % np.uint64(len(self.nucleotide_ids))).astype(np.int64)
        masked_ids.ravel()[replaced] = self.nucleotide_ids[choice]
        return masked_ids, positions

    def _treatment(self, draw: np.ndarray) -> np.ndarray:
        """Return the treatment of tokens by their draws, uint8: MASKED, REPLACED, KEPT, or 0 for not predicted."""
        treatment = (draw < self._thresholds[2]).view(np.uint8) * np.uint8(KEPT)
        treatment -= (draw < self._thresholds[1]).view(np.uint8)
        treatment -= (draw < self._thresholds[0]).view(np.uint8)
        return treatment


def evaluation_masking(encoder: Encoder, rate: float, span: int | None = None) -> Masking:
    """Return the masking of an evaluation: every token to predict is replaced by the mask token.

    Training keeps some or replaces them at random; bits measured so would describe that mixture instead.
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
    """Make masked language model batches from sample numbers, with an attention mask where rows can be padded."""

    def __init__(self, corpus: "Corpus | StreamCorpus", masking: Masking):
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
    """Make causal language model batches from sample numbers.

    Labels are not shifted, as transformers' causal models expect; the first token of a row, which nothing predicts,
    has no label. Padding is on the right, where a causal model never looks, so there is no mask.
    """

    def __init__(self, corpus: "Corpus | StreamCorpus"):
        self.corpus = corpus

    def __call__(self, samples: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """Return `input_ids`, `labels` (int64) and `loss_weight` (float32), each (B, L)."""
        examples = self.corpus.examples(np.asarray(samples, dtype=np.int64))
        weight = examples.weight
        weight[:, 0] = 0.0
        return _tensors(examples.ids, np.where(weight > 0, examples.ids, IGNORED), weight)


class TrainingWindows:
    """Training windows as a map-style dataset, for `torch.utils.data.DataLoader` and a training loop of one's own.

    Item i is a dict of `input_ids`, `labels` (-100 where nothing is predicted), `loss_weight`, and `attention_mask`
    where windows can be padded, each (L,); it depends on the seed and i alone. The first epoch's windows are its items.
    """

    def __init__(self, collator: CausalCollator | MaskedCollator, num_windows: int):
        self.collator, self.num_windows = collator, num_windows

    def __len__(self) -> int:
        return self.num_windows

    def __getitem__(self, index: int) -> dict[str, "torch.Tensor"]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, "torch.Tensor"]]:
        """Return several items, made together: what a DataLoader asks for, and faster than one by one."""
        if not all(0 <= index < self.num_windows for index in indices):
            raise IndexError(f"window {max(indices)} of {self.num_windows}")
        batch = self.collator(indices)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indices))]


def _attention_mask(examples: Examples) -> np.ndarray:
    return (np.arange(examples.ids.shape[1]) < examples.length[:, None]).astype(np.int64)
