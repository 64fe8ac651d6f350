"""Predictions of labelled rows: probabilities of classes, numbers of targets."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from genolm.labels.collate import LabelCollator

Answer = Callable[[dict[str, torch.Tensor]], torch.Tensor]


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
    answer: Answer | None = None,
) -> list[np.ndarray]:
    """Return what a model says of every row, in order.

    Rows of like length share a batch. Of two strands, the mean of their probabilities or numbers.

    Args:
        model: a model with a head for labels.
        collator: holds the rows.
        batch_size: rows in a forward pass.
        both_strands: read the other strand too.
        autocast: run in bf16, as the model was trained, or is faster.
        progress: show a bar.
        rank: of this process.
        num_ranks: processes that share the work; each must call this, and gets the same result.
        answer: the model's inputs → (B, …), what is wanted of them; by default what the model predicts.

    Returns:
        n arrays: () of P(second class) for binary; (C,) of probabilities; (T,) of probabilities or numbers; of bases
        (L, C) or (L, T).
    """
    labelled = collator.labelled
    answer = answer or (lambda inputs: in_units(labelled.task.kind, model(**inputs).logits.float(), collator))
    lengths = np.array([len(sequence) for sequence in labelled.sequences])
    order = np.argsort(lengths, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine = list(range(rank, len(batches), num_ranks))
    # Every rank runs as many forward passes: under ZeRO-3 they gather weights together.
    mine += [len(batches) - 1] * (-(-len(batches) // num_ranks) - len(mine))
    device = next(model.parameters()).device
    found: dict[int, list[np.ndarray]] = {}
    training = model.training
    model.eval()
    bar = tqdm(
        mine, desc="predicting", unit="batch", disable=not progress, mininterval=0.5 if sys.stderr.isatty() else 30
    )
    try:
        for number in bar:
            rows = batches[number]
            strands = []
            for flip in (False, True)[: 1 + both_strands]:
                strands.append(one_strand(collator, rows, flip, device, autocast, answer))
            found[number] = [np.mean(pair, axis=0) for pair in zip(*strands, strict=True)]
    finally:
        model.train(training)
    if num_ranks > 1:
        found = {number: values for share in gather_object([found]) for number, values in share.items()}
    values: list[Any] = [None] * len(labelled)
    for number, rows in enumerate(batches):
        for row, value in zip(rows.tolist(), found[number], strict=True):
            values[row] = value
    return values


def one_strand(collator: LabelCollator, rows: np.ndarray, flip: bool, device, bf16: bool, answer: Answer) -> list[Any]:
    """Return what is answered to some rows read from one strand, brought to the bases of the given one."""
    sequences = [collator.labelled.sequences[i] for i in rows]
    inputs = collator.rows(sequences, np.full(len(rows), flip))
    tensors = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        values = answer(tensors).double().cpu().numpy()
    if collator.rows.per_base:
        return [value[: len(x)][::-1] if flip else value[: len(x)] for value, x in zip(values, sequences, strict=True)]
    return list(values)


def in_units(kind: str, logits: torch.Tensor, collator: LabelCollator) -> torch.Tensor:
    """Return probabilities of classes, and numbers as the labels have them."""
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
