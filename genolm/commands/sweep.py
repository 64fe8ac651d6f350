"""`genolm sweep`: the best of many fine-tuning recipes, by their valid rows.

recipe + space → trials, each a run of `genolm finetune` in a process of its own → best.yaml, trials.csv, sweep.png

The test rows are not predicted in any trial.
"""

from pathlib import Path
from typing import Annotated

import typer

from genolm.config.shipped import recipe_names
from genolm.config.yaml import SettingsError


def sweep(
    recipe: Annotated[
        str, typer.Argument(help="Recipe of `genolm finetune`: a name or a YAML file.", autocompletion=recipe_names)
    ],
    out: Annotated[Path, typer.Option(help="Folder for trials and results.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    space: Annotated[str | None, typer.Option(help="YAML of what to search, else the recipe's block `sweep`.")] = None,
    trials: Annotated[int, typer.Option(help="Trials in all, earlier and failed ones included.", min=1)] = 20,
    jobs: Annotated[int, typer.Option(help="Trials at a time; 0 for one a GPU.", min=0)] = 0,
    metric: Annotated[str | None, typer.Option(help="Of the valid rows; else stopping.metric, or the primary.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
) -> None:
    """Search the best recipe by its valid rows. The same command again resumes.

    What is searched: {model.width: {low: 0.25, high: 2, log: true}, model.kernel: [11, 15, 19]}

    Example: genolm sweep quickstart/sweep labels.table=promoters.csv --trials 20 --out runs/sweep
    """
    from rich.console import Console

    try:
        from genolm.benchmarking.sweep_study import plan_sweep, run_trials
    except ImportError as error:
        raise SettingsError(f"genolm sweep needs optuna ({error}): pip install 'genolm[sweep]'") from error
    plan = plan_sweep(recipe, overrides or [], space, metric, out)
    study = run_trials(plan, seed, trials, jobs, out)
    best, num = study.study.best_trial, len(study.study.trials)
    Console(highlight=False).print(study.table(set()))
    print(f"best of {num} trials: {plan.metric} {best.value:.4f} on the valid rows, trial {best.number}")
    print(f"its test rows were not looked at: genolm finetune {out / 'best.yaml'}")
