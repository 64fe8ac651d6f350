"""Genomes to a pretrained model: build, run, evaluate."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from genolm.config.pretrain import PretrainRecipe
from genolm.training.signals import StopRequest, retry_with_smaller_batch


@retry_with_smaller_batch
def run_pretraining(
    stop: StopRequest, exit_stack: ExitStack, recipe: PretrainRecipe, allow_change: Sequence[str] = ()
) -> dict[str, Any]:
    """Run a recipe of `genolm pretrain` to the end and return its metrics, as in `metrics.json`."""
    from genolm.pretraining.run import pretrain_once  # torch: only once signals are listened for

    return pretrain_once(recipe, allow_change, stop, exit_stack)
