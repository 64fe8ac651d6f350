"""Run folders that `genolm finetune` wrote, read back and checked: files only, nothing is run.

metrics.json          what the run was                    must be there
predictions.parquet   id, split, label, prediction        must be there
log.jsonl             learning curve                      "no curve" where absent
recipe.yaml, provenance.json                              shown where present
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genolm.metrics.prediction_metrics import metrics
from genolm.metrics.task_metrics import KINDS

_SHOWN = 3


@dataclass(frozen=True)
class Run:
    """One run folder, its rows of one split in order of their ids.

    Attributes:
        folder: as it was given.
        about: its metrics.json.
        ids: shape (n,), str, sorted.
        labels: as in `metrics.metrics`.
        predictions: likewise.
        log: rows of log.jsonl.
        recipe: text of recipe.yaml, "" where absent.
        versions: package → version it ran with, from provenance.json.
    """

    folder: Path
    about: dict[str, Any]
    ids: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    log: list[dict[str, Any]]
    recipe: str
    versions: dict[str, str | None]

    @property
    def name(self) -> str:
        """Name of the run; runs of one name are replicates with other seeds."""
        return self.about["name"]

    @property
    def task(self) -> str:
        """Name of the task, "" where it has none."""
        return self.about.get("task_name") or ""

    @property
    def kind(self) -> str:
        """Kind of the task."""
        return self.about["task"]["kind"]

    @property
    def fraction(self) -> float:
        """Share of the training rows it learnt from."""
        return float(self.about.get("data_fraction") or 1.0)


def read_run(folder: str | Path, split: str = "test") -> Run:
    """Read a run folder.

    Args:
        folder: that `genolm finetune` wrote.
        split: whose rows are compared.

    Raises:
        ValueError: a file or key is missing or damaged, the split has no rows, ids repeat, or metrics.json disagrees
            with the predictions; naming the file.
    """
    folder = Path(folder)
    about = _read_about(folder)
    path = folder / "predictions.parquet"
    ids, labels, predictions = _read_predictions(path, about["task"]["kind"], split)
    order = np.argsort(ids, kind="stable")
    ids, labels, predictions = ids[order], labels[order], predictions[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise ValueError(f"{path}: id '{twice[0]}' stands twice in split {split}; ids name rows and must be unique")
    _check_metrics(path, about, labels, predictions, split)
    provenance = _read_json(folder / "provenance.json") if (folder / "provenance.json").is_file() else {}
    recipe = folder / "recipe.yaml"
    text = recipe.read_text(errors="replace") if recipe.is_file() else ""
    log = _read_log(folder / "log.jsonl")
    return Run(folder, about, ids, labels, predictions, log, text, provenance.get("versions") or {})


def group(runs: Sequence[Run]) -> dict[str, dict[tuple[str, float], list[Run]]]:
    """Return task → (name, data fraction) → its runs, one a seed, after checking that they can be compared.

    Raises:
        ValueError: runs of one task differ in kind, ids or labels; runs of one name in method or model; or a run is
            there twice.
    """
    tasks: dict[str, dict[tuple[str, float], list[Run]]] = {}
    first: dict[str, Run] = {}
    for run in runs:
        _check_same_rows(first.setdefault(run.task, run), run)
        replicates = tasks.setdefault(run.task, {}).setdefault((run.name, run.fraction), [])
        for other in replicates:
            _check_replicates(other, run)
        replicates.append(run)
    return tasks


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no metrics.json; give folders of finished `genolm finetune` runs")
    about = _read_json(path)
    for key, kind in {"name": str, "task": dict, "method": str, "seed": int}.items():
        if not isinstance(about.get(key), kind):
            raise ValueError(f"{path}: key {key!r} is {about.get(key)!r}; is it a run of `genolm finetune`?")
    if about["task"].get("kind") not in KINDS:
        raise ValueError(f"{path}: task kind is {about['task'].get('kind')!r}; allowed: {', '.join(KINDS)}")
    names = about["task"].get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: task names are {names!r}; allowed: a list of the task's classes, labels or targets")
    return about


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no table of keys")
    return found


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is damaged: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number} is damaged: it holds no table of keys")
        rows.append(row)
    return rows


def _read_predictions(path: Path, kind: str, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path.parent} has no predictions.parquet; did the run finish?")
    columns = ["id", "split", "label", "prediction"]
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} lacks column {missing[0]!r}; it has {', '.join(table.column_names)}")
    splits = np.array(table["split"].to_pylist(), dtype=object)
    rows = np.flatnonzero(splits == split)
    if not len(rows):
        there = ", ".join(sorted({str(name) for name in splits})) or "none"
        raise ValueError(f"{path} has no rows of split {split!r}; splits there: {there}; see --split")
    table = table.select(columns).take(pa.array(rows))
    depth = {"binary": (0, 0), "multiclass": (0, 1), "multilabel": (1, 1), "regression": (1, 1), "per-base": (1, 2)}
    found = []
    for name, lists in zip(("label", "prediction"), depth.get(kind, (2, 2)), strict=True):
        try:
            # Where a row has many bases, it keeps an array of its own.
            found.append(_array(table[name].combine_chunks(), lists, ragged=kind in ("per-base", "tracks")))
        except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: column {name} is no {kind} {name}: {str(error).splitlines()[0]}") from error
    return np.array(table["id"].cast(pa.string()).to_pylist(), dtype=str), found[0], found[1]


def _array(column: Any, depth: int, ragged: bool) -> np.ndarray:
    """Turn nested lists into (n,), (n, T), or n arrays of their own."""
    if column.null_count and depth:
        raise ValueError("a row is empty")
    if depth == 0:
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise ValueError(f"it holds {column.type}, not numbers")
        return column.to_numpy(zero_copy_only=False)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    values = _array(column.flatten(), depth - 1, False)
    if ragged:
        found = np.empty(len(lengths), dtype=object)
        found[:] = np.split(values, np.cumsum(lengths)[:-1])
        return found
    if len(set(lengths)) > 1:
        raise ValueError(f"rows hold {lengths.min()} to {lengths.max()} values")
    return values.reshape(len(lengths), -1)


def _check_metrics(path: Path, about: dict, labels: np.ndarray, predictions: np.ndarray, split: str) -> None:
    """Metrics follow from predictions: a run whose two files disagree is a mix of two."""
    try:
        task = about["task"]
        names = task["names"] if task["kind"] in ("regression", "tracks") else None
        found = metrics(task["kind"], labels, predictions, about.get("threshold"), names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, said in (about.get(split) or {}).items():
        said = said.get("value") if isinstance(said, dict) else said
        if name in found and isinstance(said, int | float) and abs(said - found[name]) > 1e-4 * max(1, abs(said)):
            raise ValueError(
                f"{path} gives {name} {found[name]:.4f} on split {split}, but its metrics.json says {said:.4f}; "
                "the two files are from different runs, or one was changed"
            )


def _check_same_rows(first: Run, run: Run) -> None:
    both = f"{first.folder} and {run.folder}"
    if first.about["task"] != run.about["task"]:
        raise ValueError(
            f"{both} have different tasks, {first.about['task']} and {run.about['task']}; compare them apart"
        )
    only_first, only_run = np.setdiff1d(first.ids, run.ids), np.setdiff1d(run.ids, first.ids)
    if len(only_first) or len(only_run):
        parts = [
            f"{len(ids)} only in {where.folder} ({_some(ids)})"
            for ids, where in ((only_first, first), (only_run, run))
            if len(ids)
        ]
        raise ValueError(
            f"{both} were measured on different rows: of {len(first.ids)} and {len(run.ids)} ids, {', '.join(parts)}. "
            "They were split differently (another table, split seed, or rows dropped for leakage in one of them)"
        )
    differ = _differ(first.labels, run.labels)
    if len(differ):
        where = first.ids[differ]
        one, other = first.labels[differ[0]], run.labels[differ[0]]
        raise ValueError(
            f"{both} differ in the labels of {len(differ)} of {len(run.ids)} rows ({_some(where)}; {where[0]}: "
            f"{_short(one)} and {_short(other)}). They come from different tables or from other columns of one"
        )


def _differ(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the rows whose labels are not equal; NaN equals NaN."""
    if labels.dtype == object:
        pairs = enumerate(zip(labels, others, strict=True))
        return np.array([k for k, (one, other) in pairs if not np.array_equal(one, other, equal_nan=True)], dtype=int)
    if labels.shape != others.shape:
        return np.arange(len(labels))
    unequal = (labels != others) & ~(np.isnan(labels) & np.isnan(others))
    return np.flatnonzero(unequal.reshape(len(labels), -1).any(axis=1))


def _check_replicates(other: Run, run: Run) -> None:
    both = f"{other.folder} and {run.folder} are both named {run.name!r}"
    if other.about["seed"] == run.about["seed"]:
        raise ValueError(
            f"{both} with seed {run.about['seed']}; leave one out, or give them other names in their recipes"
        )
    for key in ("method", "model"):
        if other.about.get(key) != run.about.get(key):
            raise ValueError(
                f"{both}, but their {key} differs: {other.about.get(key)!r} and {run.about.get(key)!r}; "
                "only seeds of one thing are averaged: give them other names in their recipes"
            )


def _some(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 40 else f"{text[:39]}…"
