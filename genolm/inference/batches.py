"""Batched forward passes: evaluation mode, device, number format, ranks and progress in one loop."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import gather_object

from genolm.config.console import progress_bar

Batch = TypeVar("Batch", bound=Sequence | np.ndarray)
Result = TypeVar("Result")


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Return row numbers in batches of similar length, the shortest first."""
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def batches_of_equal_length(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Return row numbers in batches of one length each, for rows that are not padded."""
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return [np.array(group[i : i + batch_size]) for group in groups.values() for i in range(0, len(group), batch_size)]


def run_batches(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    forward: Callable[[Batch, torch.device], Result],
    *,
    autocast: bool = False,
    progress: str = "",
    unit: str = "seq",
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[tuple[int, Result]]:
    """Run batches in evaluation mode, without gradients, and yield each batch's number and result.

    Args:
        model: its mode is restored at the end.
        batches: the rows of each.
        forward: a batch and the model's device → result.
        autocast: run in bf16.
        progress: title of a progress bar over rows, or empty for none.
        unit: of the progress bar.
        rank: of this process; it runs batches `rank`, `rank + num_ranks`, …
        num_ranks: processes that share the work. All run equally many batches, repeating the last one if needed: a
            sharded model runs on all ranks or on none.
    """
    mine = [min(i, len(batches) - 1) for i in range(rank, -(-len(batches) // num_ranks) * num_ranks, num_ranks)]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        total = sum(len(batches[number]) for number in mine)
        with progress_bar(desc=progress, unit=unit, total=total, disable=not progress) as bar:
            for number in mine:
                # Not inference_mode: sharded models gather their weights into tensors that are used again.
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    result = forward(batches[number], device)
                yield number, result
                bar.update(len(batches[number]))
    finally:
        model.train(training)


def gather_batches(results: dict[int, Any], num_ranks: int) -> list[Any]:
    """Return the results of all ranks' batches, in the order of the batches."""
    if num_ranks > 1:
        results = {number: result for part in gather_object([results]) for number, result in part.items()}
    return [results[number] for number in sorted(results)]
