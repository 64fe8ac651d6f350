"""A benchmark suite: tasks × methods × data fractions × seeds from one YAML, each a run of `genolm finetune`."""

import dataclasses
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from genolm.benchmarking.jobs import Job, last_line, run_with_table
from genolm.config.console import did_you_mean
from genolm.config.files import folder_lock, write_text
from genolm.config.finetune import FinetuneRecipe
from genolm.config.recipe import flatten_recipe, to_dict
from genolm.config.yaml import SettingsError, build_settings, load_settings, read_values, within
from genolm.finetuning.build import check_finetune_recipe
from genolm.metrics.prediction_metrics import PRIMARY
from genolm.models.label_folder import model_folder

DECIDED = {
    "run_dir": "--out decides it",
    "name": "it is the name of the method",
    "task_name": "it is the name of the task",
    "seed": "set seeds",
    "data_fraction": "it belongs to labels; set data_fractions",
    "labels.data_fraction": "set data_fractions",
}
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class BenchmarkRecipe:
    """Everything `genolm benchmark` needs.

    Attributes:
        tasks: name → keys of a FinetuneRecipe, its labels above all.
        methods: name → keys of a FinetuneRecipe: model, method, training. They win over those of the task.
        seeds: of training; the rows of a task are split alike for all.
        data_fractions: fractions of the train rows to learn from; several give a learning curve.
        defaults: keys of a FinetuneRecipe for all; tasks and methods win over them.
    """

    tasks: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    seeds: list[int] = field(default_factory=lambda: [0])
    data_fractions: list[float] = field(default_factory=lambda: [1.0])
    defaults: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for key in ("tasks", "methods", "seeds", "data_fractions"):
            values = getattr(self, key)
            if not values:
                raise SettingsError(f"{key} is empty; give at least one")
            if len(set(values)) < len(values):
                raise SettingsError(f"{key} is {values}; each may be there once")
        for key in ("tasks", "methods"):
            for name in getattr(self, key):
                if not _NAME.fullmatch(name):
                    raise SettingsError(f"{key}.{name}: the name becomes a folder; write letters, digits, - _ . +")
        for value in self.data_fractions:
            within("data_fractions", value, 1e-6, 1)
        blocks = {f"tasks.{name}": block for name, block in self.tasks.items()}
        blocks |= {f"methods.{name}": block for name, block in self.methods.items()} | {"defaults": self.defaults}
        for key, block in blocks.items():
            for name in flatten_recipe(block) | block:
                if name in DECIDED:
                    raise SettingsError(f"{key}.{name} cannot be set: {DECIDED[name]}")


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        task: its name.
        method: its name.
        recipe: all of it, run_dir, names, seed and data fraction in it.
        where: the place in the suite, for messages.
    """

    task: str
    method: str
    recipe: FinetuneRecipe
    where: str

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.recipe.run_dir)

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        return (self.folder / "metrics.json").is_file()

    @property
    def label(self) -> str:
        """The run in a few words."""
        fraction = self.recipe.labels.data_fraction
        of_rows = "" if fraction == 1 else f", {100 * fraction:g} % of the train rows"
        return f"{self.task} {self.method} seed {self.recipe.seed}{of_rows}"


def read_suite(path: str | Path, overrides: list[str], out: Path) -> list[SuiteRun]:
    """Read a suite and make the recipe of each of its runs, task by task.

    Args:
        path: a YAML file.
        overrides: `dotted.key=value`.
        out: folder of the benchmark; a run's is `runs/TASK/METHOD-seed0` in it.

    Raises:
        SettingsError: the suite, or one of the recipes, cannot be used; naming the line, or task and method.
    """
    suite = load_settings(BenchmarkRecipe, path, overrides)
    _, lines = read_values(path, overrides)
    runs = []
    for task, task_block in suite.tasks.items():
        for method, method_block in suite.methods.items():
            blocks = {"defaults": suite.defaults, f"tasks.{task}": task_block, f"methods.{method}": method_block}
            values: dict[str, Any] = {}
            places: dict[str, str] = {}
            for prefix, block in blocks.items():
                values = merge_blocks(values, block)
                at = f"{prefix}."
                places |= {key.removeprefix(at): line for key, line in lines.items() if key.startswith(at)}
            where = f"{path}: task {task}, method {method}"
            labels = values.get("labels")
            for fraction, seed in itertools.product(suite.data_fractions, suite.seeds):
                name = method if fraction == 1 else f"{method}-{fraction:g}"
                run_dir = str(out / "runs" / task / f"{name}-seed{seed}")
                given: dict[str, Any] = {"run_dir": run_dir, "name": method, "task_name": task, "seed": seed}
                if isinstance(labels, dict):
                    given["labels"] = labels | {"data_fraction": fraction}
                recipe = build_settings(FinetuneRecipe, values | given, places, where)
                runs.append(SuiteRun(task, method, recipe, where))
    seen: dict[Path, SuiteRun] = {}
    for run in runs:
        other = seen.setdefault(run.folder, run)
        if other is not run:
            raise SettingsError(f"{path}: {other.label} and {run.label} would share {run.folder}; rename a method")
    return runs


def merge_blocks(
    under: dict[str, Any],
    over: dict[str, Any],
    whole: Sequence[str] = ("model", "labels.table"),
    prefix: str = "",
) -> dict[str, Any]:
    """Return two blocks as one, key by key; `whole` are the dotted keys whose value is replaced, not merged."""
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        merged = both and prefix + key not in whole
        result[key] = merge_blocks(result[key], value, whole, f"{prefix}{key}.") if merged else value
    return result


def select(runs: list[SuiteRun], only: str) -> list[SuiteRun]:
    """Return the runs of the named tasks and methods: `mouse_0,lora,danq`; of all where none is named.

    Raises:
        ValueError: a name is neither.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    tasks, methods = {run.task for run in runs}, {run.method for run in runs}
    for name in names:
        if name not in tasks | methods:
            allowed = f"tasks: {', '.join(sorted(tasks))}; methods: {', '.join(sorted(methods))}"
            raise ValueError(f"--only {name}: {did_you_mean(name, tasks | methods, allowed)}")
    tasks, methods = tasks.intersection(names) or tasks, methods.intersection(names) or methods
    return [run for run in runs if run.task in tasks and run.method in methods]


def check_runs(runs: list[SuiteRun]) -> None:
    """Refuse a suite of which a recipe cannot work, or differs from that of the finished run in its folder.

    Raises:
        ValueError: naming the first such run.
    """
    for run in runs:
        try:
            check_finetune_recipe(run.recipe)
        except ValueError as error:
            raise ValueError(f"{run.where}: {error}") from None
        if run.done and (change := changed(run.recipe, run.folder / "recipe.yaml")):
            raise ValueError(f"{run.folder} is finished, but {change}; remove it to run it anew, or give another --out")


def changed(recipe: FinetuneRecipe, path: Path) -> str:
    """Return the first key in which a recipe differs from the `recipe.yaml` of a run, and how; "" where none does."""
    values, lines = read_values(path)
    names = {field.name for field in dataclasses.fields(FinetuneRecipe)}
    before = build_settings(FinetuneRecipe, {k: v for k, v in values.items() if k in names}, lines, str(path))
    old, new = flatten_recipe(to_dict(before)), flatten_recipe(to_dict(recipe))
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            return f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
    return ""


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
    """Run what is left, `at_once` runs at a time or 0 for one a GPU; return the failed with the last line of each."""
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
