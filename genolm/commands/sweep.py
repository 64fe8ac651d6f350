"""`genolm sweep`: the best of many fine-tuning recipes, by their valid rows.

recipe + space → trials, each a run of `genolm finetune` in a process of its own → best.yaml, trials.csv, sweep.png

The test rows are not predicted in any trial.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from genolm.benchmarking.sweep_space import Space, extremes, read_sweep, with_values
from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError

WRITTEN = ("trials", "study", "sweep.yaml", "best.yaml", "best", "trials.csv", "sweep.png", ".lock")


def sweep(
    recipe: Annotated[str, typer.Argument(help="Recipe of `genolm finetune`, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for trials and results.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    space: Annotated[str | None, typer.Option(help="YAML of what to search, else the recipe's block `sweep`.")] = None,
    trials: Annotated[int, typer.Option(help="How many, those of earlier starts and failed ones counted.", min=1)] = 20,
    jobs: Annotated[int, typer.Option(help="Trials at a time; 0 for one a GPU.", min=0)] = 0,
    metric: Annotated[str | None, typer.Option(help="Of the valid rows; else stopping.metric, or the primary.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
) -> None:
    """Search the best recipe by its valid rows; started again, go on where it stopped.

    What is searched: {model.width: {low: 0.25, high: 2, log: true}, model.kernel: [11, 15, 19]}

    Example: genolm sweep recipes/quickstart/sweep.yaml labels.table=promoters.csv --trials 20 --out runs/sweep
    """
    from genolm.config.files import refuse_other
    from genolm.finetuning.build import read_and_split
    from genolm.finetuning.validate import check_finetune_recipe
    from genolm.models.label_folder import model_folder

    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"genolm sweep needs optuna ({error}): pip install 'genolm[sweep]'") from error
    values, found = read_sweep(recipe, overrides or [], space)
    base = with_values(values, {}, out / "best", recipe)
    try:
        check_finetune_recipe(base)
    except ValueError as error:
        raise SettingsError(f"{recipe}: {error}") from None
    for key, value in extremes(found):
        try:
            check_finetune_recipe(with_values(values, {key: value}, out / "best", recipe))
        except ValueError as error:
            raise SettingsError(f"{space or recipe}: {key} = {value!r} cannot be tried: {error}") from None
    if isinstance(base.model, str):
        model_folder(base.model)
    refuse_other(out, WRITTEN, "sweep")
    labelled, split, _ = read_and_split(base.labels)
    if "valid" not in split:
        raise SettingsError(f"{recipe}: no rows are valid, which trials are compared on; see labels.split.valid")
    metric = chosen_metric(metric, base, labelled.task.kind)
    values["stopping"] = (values.get("stopping") or {}) | {"metric": metric}
    out.mkdir(parents=True, exist_ok=True)
    with_study(values, found, metric, seed, trials, jobs, out)


def chosen_metric(metric: str | None, recipe: FinetuneRecipe, kind: str) -> str:
    """Return the metric that trials are ordered by."""
    from genolm.metrics.prediction_metrics import METRICS, PRIMARY

    metric = metric or recipe.stopping.metric or PRIMARY[kind]
    if metric not in ("loss", *METRICS[kind]):
        raise SettingsError(f"--metric is {metric!r}; a {kind} task has {', '.join(METRICS[kind])} and loss")
    return metric


def with_study(
    values: dict[str, Any], space: Space, metric: str, seed: int, trials: int, at_once: int, out: Path
) -> None:
    """Run the trials that are left, and write what came of all."""
    from genolm.benchmarking.jobs import run_jobs, visible_gpus
    from genolm.benchmarking.sweep_study import SweepStudy
    from genolm.config.files import folder_lock

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with folder_lock(out):
        search = SweepStudy(values, space, metric, seed, out, console)
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def tick(running) -> None:
                if console.is_terminal:
                    live.update(search.table({job.number for job in running}), refresh=True)

            try:
                at_once = at_once or max(1, len(visible_gpus()))
                run_jobs(search.jobs(trials), at_once, search.ended, tick)
            except KeyboardInterrupt:
                live.stop()
                print("stopped: what has begun is saved; the same command goes on from there", file=sys.stderr)
                raise SystemExit(75) from None
        search.write()
    Console(highlight=False).print(search.table(set()))
    best = search.study.best_trial
    print(
        f"best of {len(search.study.trials)} trials: {metric} {best.value:.4f} on the valid rows, trial {best.number}"
    )
    print(f"its test rows were not looked at: genolm finetune {out / 'best.yaml'}")
