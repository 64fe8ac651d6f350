"""Predictions of labelled rows: probabilities of classes, numbers of targets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from genolm.inference.batches import batches_by_length, gather_batches, run_batches
from genolm.labels.collate import LabelCollator, check_lengths, for_rows
from genolm.labels.dataset import Labelled
from genolm.models.precision import has_fast_bf16

OutputFunction = Callable[[dict[str, torch.Tensor]], torch.Tensor]
"""A model's inputs → (B, …), its outputs for each row."""


def predict_rows(
    model: torch.nn.Module,
    collator: LabelCollator,
    *,
    batch_size: int = 64,
    both_strands: bool = False,
    autocast: bool = False,
    progress: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
    output: OutputFunction | None = None,
) -> list[np.ndarray]:
    """Predict every row, in order.

    Args:
        model: a model with a head for labels.
        collator: holds the rows.
        batch_size: rows in a forward pass; rows of similar length share a batch.
        both_strands: average the outputs of both strands.
        autocast: run in bf16.
        progress: show a bar.
        rank: of this process.
        num_ranks: processes that share the work; each must call this, and gets the same result.
        output: computes other outputs than the predictions.

    Returns:
        n arrays: () of P(second class) for binary; (C,) of probabilities; (T,) of probabilities or numbers; of bases
        (L, C) or (L, T).
    """
    labelled = collator.labelled
    predict = output or (lambda inputs: in_units(labelled.task.kind, model(**inputs).logits.float(), collator))

    def forward(rows: np.ndarray, device: torch.device) -> list[np.ndarray]:
        strands = [one_strand(collator, rows, flip, device, predict) for flip in (False, True)[: 1 + both_strands]]
        return [np.mean(pair, axis=0) for pair in zip(*strands, strict=True)]

    batches = batches_by_length([len(sequence) for sequence in labelled.sequences], batch_size)
    options = {"autocast": autocast, "progress": "predicting" * progress, "rank": rank, "num_ranks": num_ranks}
    results = gather_batches(dict(run_batches(model, batches, forward, **options)), num_ranks)
    values: list[Any] = [None] * len(labelled)
    for rows, batch in zip(batches, results, strict=True):
        for row, value in zip(rows.tolist(), batch, strict=True):
            values[row] = value
    return values


def predict_unlabelled(
    model: Any, collator: LabelCollator, metadata: dict[str, Any], rows: Labelled, batch_size: int = 64
) -> list[np.ndarray]:
    """Predict rows without labels by a fine-tuned model, as it was validated: strands, number format.

    Args:
        model: as `open_labelled` returns it, and the next two.
        collator: of its rows.
        metadata: of its `genolm.json`.
        rows: of `unlabelled_rows`.
        batch_size: rows in a forward pass.

    Returns:
        As `predict_rows`.

    Raises:
        ValueError: a row is too long or too short for the model.
    """
    rows = replace(rows, task=collator.labelled.task)
    check_lengths(collator.rows, rows)
    bf16 = metadata.get("bf16", False) and has_fast_bf16(model.device.type == "cpu")
    options = {"batch_size": batch_size, "both_strands": metadata["both_strands"], "autocast": bf16, "progress": True}
    return predict_rows(model, for_rows(collator, rows), **options)


def one_strand(
    collator: LabelCollator, rows: np.ndarray, flip: bool, device: torch.device, output: OutputFunction
) -> list:
    """Return the outputs of some rows read from one strand, at the bases of the given one."""
    sequences = [collator.labelled.sequences[i] for i in rows]
    inputs = collator.rows(sequences, np.full(len(rows), flip))
    tensors = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
    values = output(tensors).double().cpu().numpy()
    if collator.rows.per_base:
        return [value[: len(x)][::-1] if flip else value[: len(x)] for value, x in zip(values, sequences, strict=True)]
    return list(values)


def in_units(kind: str, logits: torch.Tensor, collator: LabelCollator) -> torch.Tensor:
    """Return probabilities of classes, or numbers on the scale of the labels."""
    if kind == "binary":
        return logits.squeeze(-1).sigmoid()
    if kind == "multilabel":
        return logits.sigmoid()
    if kind in ("multiclass", "per-base"):
        return logits.softmax(-1)
    if collator.scale is None:
        return logits
    scale, centre = (
        torch.as_tensor(x, dtype=logits.dtype, device=logits.device) for x in (collator.scale, collator.centre)
    )
    return logits * scale + centre
