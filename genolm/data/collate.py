"""Collate examples into masked or causal batches of `input_ids`, `labels` and `loss_weight`.

A collator takes sample numbers, not examples: all its work is vectorised over the batch, and everything random is
f(seed, sample, position). `labels` is -100 wherever nothing is predicted; `loss_weight` is 0 there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genolm.data.corpus import Corpus, Examples
from genolm.data.masking import Masking
from genolm.data.stream import StreamCorpus

if TYPE_CHECKING:
    import torch

IGNORED = -100


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
    """Make causal language model batches from sample numbers.

    Labels are not shifted, as transformers' causal models expect; the first token of a row, which nothing predicts,
    has no label. Padding is on the right, where a causal model never looks, so there is no mask.
    """

    def __init__(self, corpus: Corpus | StreamCorpus):
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
