"""Run what is left of a suite, and show how far each run is as a table of tasks by methods."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import yaml
from rich.console import Console
from rich.table import Table

from genolm.benchmarking.jobs import Job, last_line, run_with_table
from genolm.benchmarking.suite import SuiteRun
from genolm.config.files import folder_lock, write_text
from genolm.config.recipe import to_dict
from genolm.metrics.prediction_metrics import PRIMARY
from genolm.models.label_folder import model_folder

MARKS = {"left": "·", "running": "…", "done": "", "failed": "✗"}


class SuiteTable:
    """The state of every run of a suite.

    Attributes:
        state: run folder → left, running, done or failed.
    """

    def __init__(self, runs: list[SuiteRun]):
        self.runs, self.began = runs, time.monotonic()
        self.state = {run.folder: "done" if run.done else "left" for run in runs}
        self.scores: dict[Path, float] = {}

    def table(self) -> Table:
        """Return the mean primary metric of the finished runs of each task and method, and marks of the others."""
        cells: dict[str, dict[tuple[str, float], list[SuiteRun]]] = {}
        for run in self.runs:
            column = (run.method, run.recipe.labels.data_fraction)
            cells.setdefault(run.task, {}).setdefault(column, []).append(run)
        columns = list(dict.fromkeys(column for row in cells.values() for column in row))
        counts = [f"{list(self.state.values()).count(name)} {name}" for name in MARKS]
        spent = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.began))
        table = Table(caption=f"{', '.join(counts)}   {spent}", box=None, padding=(0, 2, 0, 0))
        table.add_column("task", no_wrap=True)
        for method, fraction in columns:
            table.add_column(method if fraction == 1 else f"{method} {100 * fraction:g} %", justify="right")
        for task, row in cells.items():
            table.add_row(task, *(self._cell(row.get(column, [])) for column in columns))
        return table

    def _cell(self, runs: list[SuiteRun]) -> str:
        done = [run.folder for run in runs if self.state[run.folder] == "done"]
        for folder in done:
            if folder not in self.scores:
                self.scores[folder] = primary_score(folder)[1]
        mean = f"{fmean(self.scores[folder] for folder in done):.3f} " if done else ""
        return mean + "".join(MARKS[self.state[run.folder]] for run in runs)


def run_suite(suite: SuiteTable, out: Path, at_once: int) -> list[tuple[SuiteRun, str]]:
    """Run what is left, and return the runs that failed, each with the last line that it printed.

    Args:
        suite: the runs.
        out: folder of the benchmark.
        at_once: runs at a time; 0 for one a GPU.
    """
    left = [run for run in suite.runs if not run.done]
    # Fetched once, not by all runs together; and a missing one is reported before anything is spent.
    for model in dict.fromkeys(run.recipe.model for run in left if isinstance(run.recipe.model, str)):
        model_folder(model)
    failed: list[tuple[SuiteRun, str]] = []

    def jobs() -> Iterator[Job]:
        for number, run in enumerate(left):
            run.folder.mkdir(parents=True, exist_ok=True)
            write_text(run.folder / "recipe.yaml", yaml.safe_dump(to_dict(run.recipe), sort_keys=False))
            suite.state[run.folder] = "running"
            yield Job(run.folder, run.folder / "recipe.yaml", number)

    def ended(job: Job, code: int, seconds: float) -> str:
        run = left[job.number]
        if code == 0 and run.done:
            suite.state[run.folder] = "done"
            name, value = primary_score(run.folder)
            return f"done    {run.label}: {name} {value:.4f}, {seconds:.0f} s"
        suite.state[run.folder] = "failed"
        failed.append((run, last_line(job.output) or f"exit code {code}"))
        return f"failed  {run.label}: {failed[-1][1]}"

    with folder_lock(out):
        run_with_table(jobs(), at_once, ended, lambda running: suite.table())
    Console(stderr=True, soft_wrap=True, highlight=False).print(suite.table())
    return failed


def primary_score(folder: Path) -> tuple[str, float]:
    """Return the primary metric of a finished run on its test rows, on its valid rows where it has none."""
    metrics = json.loads((folder / "metrics.json").read_text())
    name = PRIMARY[metrics["task"]["kind"]]
    value = metrics["test"][name]["value"] if "test" in metrics else metrics.get("valid", {}).get(name)
    return name, float("nan") if value is None else value
