"""Predictions of labelled rows: probabilities of classes, numbers of targets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from genolm.inference.batches import batches_by_length, gather_batches, run_batches
from genolm.labels.collate import LabelCollator

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
