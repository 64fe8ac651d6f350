"""Collate labelled rows: sample number → row, strand, pieces, label and its weight.

Sample number s of training is row f(seed, s): every row once an epoch, in an order of the epoch's own, or, balanced,
a class first and a row of it second. Nothing else decides, so workers, ranks and restarts cannot change a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genolm.data import rng
from genolm.data.corpus import flip_rows
from genolm.labels.dataset import Labelled
from genolm.tokenizers.encode import Encoder

if TYPE_CHECKING:
    import torch

STREAM_ROW, STREAM_CLASS, STREAM_MEMBER, STREAM_ROW_STRAND = 32, 33, 34, 35
PAD_TO = 32
"""Rows of unequal length are padded to a multiple of this many tokens: few shapes, little padding."""


@dataclass(frozen=True)
class RowEncoder:
    """Sequences of rows → inputs of a model.

    Attributes:
        encoder: sequence → token ids.
        max_tokens: the longest row that the model takes, special tokens included; None for any.
        cut: longer rows are cut into pieces of equal size; else they are refused.
        per_base: also return the token over each base.
        special_tokens: add those that the tokenizer adds.
    """

    encoder: Encoder
    max_tokens: int | None = None
    cut: bool = False
    per_base: bool = False
    special_tokens: bool = True

    def __call__(self, sequences: Sequence[str], flip: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return `input_ids` and `attention_mask` (P, L), `pieces` (B, P) where a row is cut, `token_of_base` (B, W).

        Args:
            sequences: B rows.
            flip: (B,) bool, rows to read from the other strand.
        """
        lengths = np.array([len(sequence) for sequence in sequences])
        letters = np.full((len(lengths), int(lengths.max())), ord("N"), dtype=np.uint8)
        for row, sequence in enumerate(sequences):
            letters[row, : lengths[row]] = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
        if flip is not None:
            flip_rows(letters, lengths, flip)
        prefix, suffix = (self.encoder.prefix_ids, self.encoder.suffix_ids) if self.special_tokens else ((), ())
        encoded = self.encoder.encode_batch(letters, lengths, special_tokens=False)
        count = (encoded.end > encoded.start).sum(1)
        if not count.all():
            shortest = int(lengths[count == 0].min())
            raise ValueError(f"a sequence of {shortest} bp has no token: the tokenizer's are {self.encoder.k} bp long")
        room = None if self.max_tokens is None else self.max_tokens - len(prefix) - len(suffix)
        parts = np.ones_like(count) if room is None else -(-count // room)
        if (parts > 1).any() and not self.cut:
            row = int(np.argmax(parts))
            raise ValueError(
                f"a sequence of {lengths[row]:,} bp has {count[row]:,} tokens; the model takes {room:,}. "
                "Shorten it, or learn with long_inputs: windows, which reads it in pieces and averages their vectors"
            )
        row = np.repeat(np.arange(len(parts)), parts)
        part = np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
        first, last = part * count[row] // parts[row], (part + 1) * count[row] // parts[row]
        size = last - first
        width = int(size.max()) + len(prefix) + len(suffix)
        if (size != size[0]).any():
            padded = -(-width // PAD_TO) * PAD_TO
            width = padded if self.max_tokens is None else min(padded, self.max_tokens)
        ids = np.full((len(row), width), self.encoder.pad_id, dtype=np.int64)
        ids[:, : len(prefix)] = prefix
        for p, (r, a, b) in enumerate(zip(row.tolist(), first.tolist(), last.tolist(), strict=True)):
            ids[p, len(prefix) : len(prefix) + b - a] = encoded.ids[r, a:b]
            ids[p, len(prefix) + b - a : len(prefix) + b - a + len(suffix)] = suffix
        mask = (np.arange(width) < (size + len(prefix) + len(suffix))[:, None]).astype(np.int64)
        model_inputs = {"input_ids": ids, "attention_mask": mask}
        if len(row) > len(parts):
            shares = np.zeros((len(parts), len(row)), dtype=np.float32)
            shares[row, np.arange(len(row))] = size / count[row]
            model_inputs["pieces"] = shares
        if self.per_base:
            model_inputs["token_of_base"] = self._tokens(encoded.end, count, letters.shape[1]) + len(prefix)
        return model_inputs

    def _tokens(self, end: np.ndarray, count: np.ndarray, width: int) -> np.ndarray:
        """Return (B, W) the token over each base; of overlapping k-mers the one with the base nearest its middle."""
        base = np.arange(width)
        if self.encoder.kind == "kmer-overlapping":
            return np.clip(base - self.encoder.k // 2, 0, count[:, None] - 1)
        at = np.stack([np.searchsorted(end[row, :n], base, side="right") for row, n in enumerate(count)])
        return np.minimum(at, count[:, None] - 1)


def class_weights(labelled: Labelled) -> np.ndarray:
    """Return class weights that make all classes weigh the same in sum: n / (classes · rows of the class).

    Returns:
        (C,) for binary, multiclass and per-base; (2, T), of negatives and of positives, for multilabel. 1 on average.
    """
    kind, labels = labelled.task.kind, labelled.labels
    if kind == "multilabel":
        counts = np.array([(labels == value).sum(axis=0) for value in (0, 1)], dtype=np.float64)
        return counts.sum(axis=0) / (2 * np.maximum(counts, 1))
    values = np.concatenate(list(labels)) if kind == "per-base" else labels
    counts = np.bincount(values[values >= 0], minlength=len(labelled.task.names)).astype(np.float64)
    return counts.sum() / (len(counts) * np.maximum(counts, 1))


def check_lengths(encoder: RowEncoder, part: Labelled) -> None:
    """Refuse a row that is too long or too short for the model, naming its file and line."""
    # Of fixed-width tokens the longest row has most; of BPE one of the longest, nearly always.
    order = sorted(range(len(part)), key=lambda row: -len(part.sequences[row]))
    for row in dict.fromkeys([*order[:64], *order[-1:]]):
        try:
            encoder([part.sequences[row]])
        except ValueError as error:
            raise ValueError(f"{part.source[row]}: {error}") from None


@dataclass(frozen=True)
class LabelCollator:
    """Sample numbers → batches of labelled rows.

    Attributes:
        labelled: the rows.
        rows: sequence → token ids.
        seed: of order and strands.
        reverse_complement: probability that a row is read from the other strand.
        balanced: all classes are equally likely.
        weights: as `class_weights` gives; None where all weigh 1.
        centre: (T,) subtracted from the targets of regression and tracks; and
        scale: (T,) by which they are then divided. None for as they are.
        in_order: sample number i is row i, on its own strand.
    """

    labelled: Labelled
    rows: RowEncoder
    seed: int = 0
    reverse_complement: float = 0.0
    balanced: bool = False
    weights: np.ndarray | None = None
    centre: np.ndarray | None = None
    scale: np.ndarray | None = None
    in_order: bool = False

    def drawn(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of samples (B,), and which are read from the other strand (B,) bool."""
        num = len(self.labelled)
        if self.in_order:
            return samples % num, np.zeros(len(samples), dtype=bool)
        flip = rng.uniform(self.seed, STREAM_ROW_STRAND, samples) < self.reverse_complement
        if not self.balanced:
            epoch, index = np.divmod(samples, num)
            return rng.permute(self.seed, STREAM_ROW, index, num, epoch), flip
        labels = self.labelled.labels
        present = np.unique(labels)
        drawn_class = present[rng.integers(self.seed, STREAM_CLASS, samples, len(present))]
        row = np.zeros(len(samples), dtype=np.int64)
        for value in present:
            members, here = np.flatnonzero(labels == value), drawn_class == value
            row[here] = members[rng.integers(self.seed, STREAM_MEMBER, samples[here], len(members))]
        return row, flip

    def __call__(self, samples: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """Return the inputs of the model, `labels` and `loss_weight`."""
        import torch

        row, flip = self.drawn(np.asarray(samples, dtype=np.int64))
        batch: dict[str, Any] = self.rows([self.labelled.sequences[i] for i in row], flip)
        batch["labels"], batch["loss_weight"] = self._labels(row, flip)
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def _labels(self, row: np.ndarray, flip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kind, labels = self.labelled.task.kind, self.labelled.labels[row]
        if kind in ("per-base", "tracks"):
            labels = self._along([x[::-1] if f else x for x, f in zip(labels, flip, strict=True)])
        if kind in ("binary", "multiclass", "per-base"):
            has_label = labels >= 0
            weight = has_label.astype(np.float32)
            if self.weights is not None:
                weight *= self.weights[np.maximum(labels, 0)]
            return labels.astype(np.int64), weight.astype(np.float32)
        weight = np.isfinite(labels).astype(np.float32)
        if kind == "multilabel" and self.weights is not None:
            weight *= np.where(labels == 1, self.weights[1], self.weights[0])
        if self.scale is not None:
            labels = (labels - self.centre) / self.scale
        return np.nan_to_num(labels).astype(np.float32), weight.astype(np.float32)

    def _along(self, labels: list[np.ndarray]) -> np.ndarray:
        """Return labels of bases as one array, padded by what is not has_label."""
        width = max(map(len, labels))
        fill: Any = -100 if self.labelled.task.kind == "per-base" else np.nan
        out = np.full((len(labels), width, *labels[0].shape[1:]), fill, dtype=labels[0].dtype)
        for i, one in enumerate(labels):
            out[i, : len(one)] = one
        return out


def for_rows(collator: LabelCollator, labelled: Labelled) -> LabelCollator:
    """Return a copy of a collator that reads other rows, in their order."""
    return replace(collator, labelled=labelled, in_order=True, reverse_complement=0.0, balanced=False)
