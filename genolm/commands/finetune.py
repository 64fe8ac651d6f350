"""`genolm finetune`: labelled DNA to a fine-tuned language model, or a baseline, and its predictions."""

from contextlib import ExitStack
from typing import Annotated, Any

import typer

from genolm.config.finetune import FinetuneRecipe
from genolm.config.shipped import recipe_names
from genolm.config.yaml import load_settings
from genolm.training.signals import StopRequest, exit_codes, retry_with_smaller_batch


@exit_codes
def finetune(
    recipe: Annotated[
        str, typer.Argument(help="Recipe: a name from `genolm recipes`, or a YAML file.", autocompletion=recipe_names)
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    launch: Annotated[
        str,
        typer.Option(help="Start ranks by a launch profile (ddp, zero2, …) or a file: 'ddp --num_processes 4'."),
    ] = "",
) -> None:
    """Fine-tune a DNA language model on labelled sequences (LoRA, full, probe, from scratch), or train a baseline.

    Example: genolm finetune quickstart/baseline labels.table=promoters.csv run_dir=runs/danq
    """
    settings = load_settings(FinetuneRecipe, recipe, overrides or [])
    if launch:
        from genolm.training.launch import launch as start_ranks

        raise SystemExit(start_ranks(launch, ["finetune", recipe, *(overrides or [])]))
    run_finetuning(settings)


@retry_with_smaller_batch
def run_finetuning(stop: StopRequest, exit_stack: ExitStack, recipe: FinetuneRecipe) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`."""
    from genolm.finetuning.run import finetune_once  # torch: only once signals are listened for

    return finetune_once(recipe, stop, exit_stack)
