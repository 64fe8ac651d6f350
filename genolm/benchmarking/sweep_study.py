"""The study of a sweep: which trial is next, the result of each, and the best.

Trials are drawn by optuna's TPE, which learns from those before; where a space is lists alone, and the number of trials
suffices for all of it, each combination is tried once.
"""

import csv
import io
import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.markup import escape
from rich.table import Table

from genolm.benchmarking.jobs import Job, last_line, run_with_table
from genolm.benchmarking.sweep_space import Range, Space, extremes, read_sweep, with_values
from genolm.config.files import folder_lock, refuse_other, write_text
from genolm.config.recipe import flatten_recipe, to_dict
from genolm.config.yaml import SettingsError
from genolm.finetuning.best import higher_is_better
from genolm.finetuning.build import check_finetune_recipe, check_metric, read_and_split
from genolm.metrics.prediction_metrics import PRIMARY
from genolm.models.label_folder import model_folder
from genolm.reports.figures import sweep_figure

WRITTEN = ("trials", "study", "sweep.yaml", "best.yaml", "best", "trials.csv", "sweep.png", ".lock")


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep searches.

    Attributes:
        recipe: of `genolm finetune`, as plain data.
        space: dotted key → range or choices.
        metric: of the valid rows, by which trials are ranked.
    """

    recipe: dict[str, Any]
    space: Space
    metric: str


def plan_sweep(path: str, overrides: list[str], space_path: str | None, metric: str | None, out: Path) -> SweepPlan:
    """Read recipe and space, and check that both ends of every range and each choice can be tried.

    Raises:
        ValueError: the recipe or the space cannot be used, `out` holds something else, or no rows are valid.
    """
    values, space = read_sweep(path, overrides, space_path)
    base = with_values(values, {}, out / "best", path)
    try:
        check_finetune_recipe(base)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
    for key, value in extremes(space):
        try:
            check_finetune_recipe(with_values(values, {key: value}, out / "best", path))
        except ValueError as error:
            raise SettingsError(f"{space_path or path}: {key} = {value!r} cannot be tried: {error}") from None
    if isinstance(base.model, str):
        model_folder(base.model)
    refuse_other(out, WRITTEN, "sweep")
    labelled, split, _ = read_and_split(base.labels)
    if "valid" not in split:
        raise SettingsError(f"{path}: no rows are valid, which trials are compared on; see labels.split.valid")
    check_metric("--metric", metric, labelled.task.kind)
    metric = metric or base.stopping.metric or PRIMARY[labelled.task.kind]
    values["stopping"] = (values.get("stopping") or {}) | {"metric": metric}
    return SweepPlan(values, space, metric)


def run_trials(plan: SweepPlan, seed: int, trials: int, at_once: int, out: Path) -> "SweepStudy":
    """Run those of so many trials in all that are left, `at_once` at a time or 0 for one a GPU, and write all results.

    Failed trials count. `seed` is that of the search.
    """
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out):
        study = SweepStudy(plan, seed, out)
        run_with_table(study.jobs(trials), at_once, study.ended, study.table)
        study.write()
    return study


class SweepStudy:
    """The trials of a sweep.

    Attributes:
        study: optuna's, kept in `study/journal.log`.
    """

    def __init__(self, plan: SweepPlan, seed: int, out: Path):
        self.values, self.space, self.metric, self.seed, self.out = plan.recipe, plan.space, plan.metric, seed, out
        self.lower = not higher_is_better(plan.metric)
        self._check_same()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal = out / "study" / "journal.log"
        journal.parent.mkdir(exist_ok=True)
        if journal.is_file():  # killed while it wrote, the last line may be half of one
            whole = journal.read_bytes()
            if not whole.endswith(b"\n"):
                journal.write_bytes(whole[: whole.rfind(b"\n") + 1])
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="sweep",
            direction="minimize" if self.lower else "maximize",
            load_if_exists=True,
        )

    def _check_same(self) -> None:
        """Refuse to resume with another recipe or space: trials would not compare."""
        space = {key: value if isinstance(value, list) else vars(value) for key, value in self.space.items()}
        recipe = to_dict(with_values(self.values, {}, self.out / "best", "recipe"))
        now = {"metric": self.metric, "seed": self.seed, "space": space, "recipe": recipe}
        path = self.out / "sweep.yaml"
        if path.is_file():
            before = yaml.safe_load(path.read_text())
            old = {**before, "recipe": flatten_recipe(before["recipe"])}
            for key, value in (now | {"recipe": flatten_recipe(recipe)}).items():
                if old.get(key) != value:
                    raise SettingsError(
                        f"{self.out} holds a sweep whose {key} was another: {_difference(old.get(key), value)}; "
                        "resume with that, or give another --out"
                    )
        write_text(path, yaml.safe_dump(now, sort_keys=False))

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.out / "trials" / f"{number:04d}"

    def jobs(self, trials: int) -> Iterator[Job]:
        """Yield the runs that are left: first those that were started, then new ones until there are `trials`."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if set(trial.params) != set(self.space):
                self.folder(trial.number).mkdir(parents=True, exist_ok=True)
                print(self.tell(trial.number, "stopped before all of it was drawn"), file=sys.stderr)
            elif (self.folder(trial.number) / "metrics.json").is_file():
                print(self.tell(trial.number, ""), file=sys.stderr)
            elif job := self.job(trial.number, trial.params):
                yield job
        whole = combinations(self.space, trials)
        waiting, started = (TrialState.WAITING,), (TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL)
        while (number := len(tried := self.study.get_trials(deepcopy=False, states=started))) < trials:
            if whole:
                left = [params for params in whole if params not in [trial.params for trial in tried]]
                if not left:
                    return
                if not self.study.get_trials(states=waiting):  # there is one where it was killed between these lines
                    self.study.enqueue_trial(left[0])
            # A sampler a trial: what is drawn depends on the seed, the trial and those before, not on restarts.
            self.study.sampler = TPESampler(seed=(self.seed * 1_000_003 + number) % 2**32)
            trial = self.study.ask(distributions(self.space))
            if job := self.job(trial.number, trial.params):
                yield job

    def job(self, number: int, params: dict[str, Any]) -> Job | None:
        """Write the recipe of a trial and return its run; None where it is not a recipe, which counts as failed."""
        folder = self.folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            recipe = with_values(self.values | {"predict_test": False}, self.chosen(params), folder, f"trial {number}")
            check_finetune_recipe(recipe)
        except ValueError as error:
            print(self.tell(number, str(error)), file=sys.stderr)
            return None
        write_text(folder / "recipe.yaml", yaml.safe_dump(to_dict(recipe), sort_keys=False))
        return Job(folder, folder / "recipe.yaml", number)

    def chosen(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return dotted key → value of the parameters that optuna drew."""
        choices = {key: entry for key, entry in self.space.items() if isinstance(entry, list)}
        return {key: choices[key][int(value)] if key in choices else value for key, value in params.items()}

    def ended(self, job: Job, code: int, seconds: float) -> str:
        """Record the result of a run, and return a line about it."""
        return self.tell(job.number, "" if code == 0 else last_line(job.output) or f"exit code {code}")

    def tell(self, number: int, reason: str) -> str:
        """Record the value of a trial, or that it failed where `reason` is given, and return a line about it."""
        folder, value = self.folder(number), None
        if not reason:
            value = json.loads((folder / "metrics.json").read_text()).get("valid", {}).get(self.metric)
            reason = "" if value is not None else f"{self.metric} is not defined on the valid rows"
        if value is None:
            write_text(folder / "failed.txt", reason + "\n")
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, value)
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                if trial.number != self.study.best_trial.number:  # hundreds of models would fill a disk
                    shutil.rmtree(self.folder(trial.number) / "model", ignore_errors=True)
        drawn = ", ".join(f"{key} {shown(v)}" for key, v in self.chosen(self.study.trials[number].params).items())
        result = f"{self.metric} {value:.4f}" if value is not None else f"failed: {reason}"
        return f"trial {number}: {result}   {drawn}"

    def table(self, running: set[int]) -> Table:
        """Return the best trials, the last ones, and those that run."""
        trials = self.study.get_trials(deepcopy=False)
        sign = 1 if self.lower else -1
        ranked = sorted((t for t in trials if t.value is not None), key=lambda t: sign * (t.value or 0.0))
        numbers = sorted(t.number for t in trials if t.value is not None or t.number in running)
        keep = {t.number for t in ranked[:5]} | running | set(numbers[-5:])
        failed = sum(t.state.name == "FAIL" for t in trials)
        caption = f"{len(ranked)} done, {failed} failed, {len(running)} running"
        table = Table("trial", self.metric, *map(escape, self.space), caption=caption, box=None, padding=(0, 2, 0, 0))
        for trial in [*ranked, *(t for t in trials if t.number in running)]:
            if trial.number in keep:
                value = "running" if trial.value is None else f"{trial.value:.4f}"
                row = [escape(shown(v)) for v in self.chosen(trial.params).values()]
                table.add_row(str(trial.number), value, *row, style="bold" if trial in ranked[:1] else None)
        return table

    def _reason(self, trial: FrozenTrial) -> str:
        path = self.folder(trial.number) / "failed.txt"
        return path.read_text().strip() if trial.value is None and path.is_file() else ""

    def write(self) -> None:
        """Write `trials.csv`, `sweep.png` and `best.yaml`.

        Raises:
            ValueError: all trials failed.
        """
        rows, text = self.study.get_trials(deepcopy=False), io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["trial", "state", self.metric, "seconds", *self.space, "reason"])
        drawn = [self.chosen(trial.params) for trial in rows]
        for trial, values in zip(rows, drawn, strict=True):
            reason = self._reason(trial)
            seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.1f}"
            state = {"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, "running")
            table.writerow([trial.number, state, trial.value, seconds, *(values.get(k) for k in self.space), reason])
        write_text(self.out / "trials.csv", text.getvalue())
        scores = [trial.value for trial in rows]
        if not any(score is not None for score in scores):
            reason = self._reason(rows[-1]) or "see trials/*/output.txt"
            raise ValueError(f"all {len(rows)} trials failed, the last one with: {reason}")
        logarithmic = [key for key, entry in self.space.items() if isinstance(entry, Range) and entry.log]
        columns = {key: [values.get(key) for values in drawn] for key in self.space}
        sweep_figure(scores, columns, self.out / "sweep.png", self.metric, self.lower, logarithmic)
        best = with_values(self.values, self.chosen(self.study.best_trial.params), self.out / "best", "best.yaml")
        write_text(self.out / "best.yaml", yaml.safe_dump(to_dict(best), sort_keys=False))


def distributions(space: Space) -> dict[str, Any]:
    """Return optuna's distributions of a space; choices go by their place in the list, so that they may be anything."""
    made: dict[str, Any] = {}
    for key, entry in space.items():
        if isinstance(entry, list):
            made[key] = CategoricalDistribution([str(i) for i in range(len(entry))])
        elif entry.whole:
            made[key] = IntDistribution(entry.low, entry.high, log=entry.log, step=int(entry.step or 1))
        else:
            made[key] = FloatDistribution(float(entry.low), float(entry.high), log=entry.log, step=entry.step)
    return made


def combinations(space: Space, trials: int) -> list[dict[str, Any]]:
    """Return optuna's parameters of all combinations where they are no more than `trials`; else none."""
    lists = [entry for entry in space.values() if isinstance(entry, list)]
    if len(lists) < len(space) or math.prod(map(len, lists)) > trials:
        return []
    places = [[str(i) for i in range(len(entry))] for entry in lists]
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*places)]


def shown(value: Any) -> str:
    """Format a value for a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        return f"{key} {_difference(old.get(key), new.get(key))}"
    return f"{old!r}, now {new!r}"
