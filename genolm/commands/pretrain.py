"""`genolm pretrain`: from a FASTA to a model that plain AutoModel loads, in one command."""

from typing import Annotated

import typer

from genolm.config.pretrain import PretrainRecipe
from genolm.config.shipped import recipe_names
from genolm.config.yaml import SettingsError, load_settings
from genolm.pretraining import run_pretraining
from genolm.training.signals import exit_codes


@exit_codes
def pretrain(
    recipe: Annotated[
        str, typer.Argument(help="Recipe: a name from `genolm recipes`, or a YAML file.", autocompletion=recipe_names)
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    launch: Annotated[
        str,
        typer.Option(help="Start ranks by a launch profile (ddp, zero2, …) or a file: 'ddp --num_processes 4'."),
    ] = "",
    allow_change: Annotated[
        list[str] | None, typer.Option(help="A key that may differ from the checkpoint's recipe; repeat for more.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what the run will take, FLOPs, memory and days; run and write nothing."),
    ] = False,
    gpus: Annotated[
        str, typer.Option(help="For --plan: 8xH100, A100-40, 4; by default what this machine has, else 8xH100.")
    ] = "",
) -> None:
    """Pretrain a DNA language model from genomes, and evaluate it. The same command again resumes where it stopped.

    Example: genolm pretrain quickstart/causal data.fasta=genome.fa run_dir=runs/first
    """
    if gpus and not plan:
        raise SettingsError(f"--gpus {gpus}: it is for --plan; --launch 'ddp --num_processes N' trains on N GPUs")
    settings = load_settings(PretrainRecipe, recipe, overrides or [])
    if plan:
        from genolm.plan.report import plan_recipe

        return plan_recipe(settings, gpus, launch)
    if launch:
        from genolm.training.launch import launch as start_ranks

        allowed = [word for key in allow_change or [] for word in ("--allow-change", key)]
        raise SystemExit(start_ranks(launch, ["pretrain", recipe, *(overrides or []), *allowed]))
    run_pretraining(settings, allow_change or [])
