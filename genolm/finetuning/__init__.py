"""Labelled rows to a fine-tuned model: build, train, validate, probe."""

from contextlib import ExitStack
from typing import Any

from genolm.config.finetune import FinetuneRecipe
from genolm.training.signals import StopRequest, retry_with_smaller_batch


@retry_with_smaller_batch
def run_finetuning(stop: StopRequest, exit_stack: ExitStack, recipe: FinetuneRecipe) -> dict[str, Any]:
    """Run a recipe of `genolm finetune` to the end and return its metrics, as in `metrics.json`."""
    from genolm.finetuning.run import finetune_once  # torch: only once signals are listened for

    return finetune_once(recipe, stop, exit_stack)
