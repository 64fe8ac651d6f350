"""`genolm benchmark`: tasks × methods × seeds from one YAML, each a run of `genolm finetune`, to one page.

suite → recipes, all checked → processes, a few at a time → run folders → comparison

A run folder with metrics.json is done; one that was started is gone on with.
"""

import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from genolm.benchmarking.suite import SuiteRun, changed, read_suite, select

MARKS = {"left": "·", "running": "…", "done": "", "failed": "✗"}


def benchmark(
    suite: Annotated[str, typer.Argument(help="Suite, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for runs/ and compare/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the suite: key=value.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time; 0 for one a GPU.", min=0)] = 0,
    only: Annotated[str, typer.Option(help="Names of tasks and methods: mouse_0,lora,danq.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Check all recipes, show what would run, and run nothing.")] = False,
) -> None:
    """Run every method on every task with every seed, and compare them; started again, go on where it stopped.

    Example: genolm benchmark recipes/benchmarks/gue.yaml defaults.model=runs/first --out runs/gue --jobs 2
    """
    from genolm.config.files import refuse_other
    from genolm.finetuning.validate import check_finetune_recipe

    runs = read_suite(suite, overrides or [], out)
    for run in runs:
        try:
            check_finetune_recipe(run.recipe)
        except ValueError as error:
            raise ValueError(f"{run.where}: {error}") from None
        before = changed(run.recipe, run.folder / "recipe.yaml") if run.done else ""
        if before:
            raise ValueError(f"{run.folder} is finished, but {before}; remove it to run it anew, or give another --out")
    chosen = select(runs, only)
    board = Board(chosen)
    if dry_run:
        Console(highlight=False).print(board.table())
        for run in chosen:
            typer.echo(f"{board.state[run.folder]:<8}{run.folder}  {run.label}")
        return
    refuse_other(out, ("runs", "compare", ".lock"), "benchmark")
    out.mkdir(parents=True, exist_ok=True)
    failed = run_all(chosen, board, out, jobs)
    finished = [run.folder for run in runs if run.done]
    if finished:
        from genolm.reports.comparison_report import write_comparison
        from genolm.reports.tables import print_comparison

        print_comparison(write_comparison(finished, out / "compare"))
        typer.echo(f"page: {out / 'compare' / 'index.html'}")
    if failed:
        typer.echo(f"{len(failed)} of {len(chosen)} runs failed; the same command tries them again:", err=True)
        for run, reason in failed:
            typer.echo(f"  {run.label}: {reason}\n    {run.folder / 'output.txt'}", err=True)
        raise SystemExit(1)


def run_all(runs: list[SuiteRun], board: "Board", out: Path, at_once: int) -> list[tuple[SuiteRun, str]]:
    """Run what is left, and return the runs that failed with their last words."""
    import yaml

    from genolm.benchmarking.jobs import Job, last_line, run_jobs, visible_gpus
    from genolm.config.files import folder_lock, write_text
    from genolm.config.recipe import to_dict
    from genolm.models.label_folder import model_folder

    left = [run for run in runs if not run.done]
    # Fetched once, not by all runs together; and one that is missing is told before anything is spent.
    for model in dict.fromkeys(run.recipe.model for run in left if isinstance(run.recipe.model, str)):
        model_folder(model)
    failed = []

    def jobs():
        for number, run in enumerate(left):
            run.folder.mkdir(parents=True, exist_ok=True)
            write_text(run.folder / "recipe.yaml", yaml.safe_dump(to_dict(run.recipe), sort_keys=False))
            yield Job(run.folder, run.folder / "recipe.yaml", number)

    def ended(job: Job, code: int, seconds: float) -> None:
        run = left[job.number]
        if code == 0 and run.done:
            board.state[run.folder] = "done"
            name, value = score(run)
            console.print(f"done    {run.label}: {name} {value:.4f}, {seconds:.0f} s", markup=False)
        else:
            board.state[run.folder] = "failed"
            failed.append((run, last_line(job.output) or f"exit code {code}"))
            console.print(f"failed  {run.label}: {failed[-1][1]}", markup=False)

    def tick(running: list[Job]) -> None:
        for job in running:
            board.state[job.folder] = "running"
        if console.is_terminal:
            live.update(board.table(), refresh=True)

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with folder_lock(out), Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            run_jobs(jobs(), at_once or max(1, len(visible_gpus())), ended, tick)
        except KeyboardInterrupt:
            live.stop()
            print("stopped: what has begun is saved; the same command goes on from there", file=sys.stderr)
            raise SystemExit(75) from None
    console.print(board.table())
    return failed


def score(run: SuiteRun) -> tuple[str, float]:
    """Return the primary metric of a finished run on its test rows, on its valid rows where it has none."""
    import json

    from genolm.metrics.prediction_metrics import PRIMARY

    about: dict[str, Any] = json.loads((run.folder / "metrics.json").read_text())
    name = PRIMARY[about["task"]["kind"]]
    found = about["test"][name]["value"] if "test" in about else about.get("valid", {}).get(name)
    return name, float("nan") if found is None else found


class Board:
    """How far each run is, as a table of tasks by methods.

    Attributes:
        state: run folder → left, running, done or failed.
    """

    def __init__(self, runs: list[SuiteRun]):
        self.runs, self.began = runs, time.monotonic()
        self.state = {run.folder: "done" if run.done else "left" for run in runs}
        self.scores: dict[Path, float] = {}

    def table(self) -> Table:
        """Return the table: the mean primary metric of the finished runs, and what the others are at."""
        columns = list(dict.fromkeys((run.method, run.recipe.labels.data_fraction) for run in self.runs))
        counts = [f"{list(self.state.values()).count(name)} {name}" for name in MARKS]
        spent = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.began))
        table = Table(caption=f"{', '.join(counts)}   {spent}", box=None, padding=(0, 2, 0, 0))
        table.add_column("task", no_wrap=True)
        for method, fraction in columns:
            table.add_column(method if fraction == 1 else f"{method} {100 * fraction:g} %", justify="right")
        for task in dict.fromkeys(run.task for run in self.runs):
            cells = []
            for column in columns:
                of = [r for r in self.runs if r.task == task and (r.method, r.recipe.labels.data_fraction) == column]
                cells.append(self._cell(of))
            table.add_row(task, *cells)
        return table

    def _cell(self, runs: list[SuiteRun]) -> str:
        done = [run for run in runs if self.state[run.folder] == "done"]
        for run in done:
            if run.folder not in self.scores:
                self.scores[run.folder] = score(run)[1]
        mean = f"{fmean(self.scores[run.folder] for run in done):.3f} " if done else ""
        return mean + "".join(MARKS[self.state[run.folder]] for run in runs)
