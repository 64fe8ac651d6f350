"""`genolm finetune`: labelled DNA to a fine-tuned language model, or a baseline, and its predictions."""

from typing import Annotated

import typer

from genolm.config.finetune import FinetuneRecipe
from genolm.config.shipped import recipe_names
from genolm.config.yaml import load_settings
from genolm.finetuning import run_finetuning
from genolm.training.signals import exit_codes


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
