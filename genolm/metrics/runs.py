"""Write predictions, and read and check the run folders of `genolm finetune`.

metrics.json          task, method, seed, metrics         required
predictions.parquet   id, split, label, prediction        required
log.jsonl             learning curve                      optional
recipe.yaml, provenance.json                              optional
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genolm.config.files import atomic_path, write_text
from genolm.labels.dataset import Labelled
from genolm.labels.task import KINDS
from genolm.metrics.prediction_metrics import compute_metrics

_SHOWN = 3


@dataclass(frozen=True)
class FinetunedRun:
    """One run folder of `genolm finetune`, with the rows of one split sorted by id.

    Attributes:
        folder: its path.
        metadata: contents of its metrics.json.
        ids: shape (n,), str, sorted.
        labels: as in `prediction_metrics.compute_metrics`.
        predictions: likewise.
        log: rows of log.jsonl.
        recipe: text of recipe.yaml, "" where absent.
        versions: package → version it ran with, from provenance.json.
    """

    folder: Path
    metadata: dict[str, Any]
    ids: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    log: list[dict[str, Any]]
    recipe: str
    versions: dict[str, str | None]

    @property
    def name(self) -> str:
        """Name of the run; runs of one name are replicates with other seeds."""
        return self.metadata["name"]

    @property
    def task(self) -> str:
        """Name of the task, or ""."""
        return self.metadata.get("task_name") or ""

    @property
    def kind(self) -> str:
        """Kind of the task."""
        return self.metadata["task"]["kind"]

    @property
    def fraction(self) -> float:
        """Fraction of the training rows it was trained on."""
        return float(self.metadata.get("data_fraction") or 1.0)

    def measured(self) -> tuple[str, np.ndarray, np.ndarray, Any, list[str] | None]:
        """Return kind, labels, predictions, threshold and names, as `prediction_metrics.compute_metrics` takes them."""
        names = self.metadata["task"]["names"] if self.kind in ("regression", "tracks") else None
        return self.kind, self.labels, self.predictions, self.metadata.get("threshold"), names


def read_run(folder: str | Path, split: str = "test") -> FinetunedRun:
    """Read a run folder.

    Args:
        folder: run folder of `genolm finetune`.
        split: rows to read.

    Raises:
        ValueError: a file or key is missing or damaged, the split has no rows, ids repeat, or metrics.json disagrees
            with the predictions; naming the file.
    """
    folder = Path(folder)
    metadata = _read_metadata(folder)
    path = folder / "predictions.parquet"
    ids, labels, predictions = _read_predictions(path, metadata["task"]["kind"], split)
    order = np.argsort(ids, kind="stable")
    ids, labels, predictions = ids[order], labels[order], predictions[order]
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise ValueError(f"{path}: id {str(repeated[0])!r} occurs twice in split {split}; ids must be unique")
    made, recipe = folder / "provenance.json", folder / "recipe.yaml"
    provenance = _json_object(made.read_bytes(), made) if made.is_file() else {}
    text = recipe.read_text(errors="replace") if recipe.is_file() else ""
    log = _read_log(folder / "log.jsonl")
    run = FinetunedRun(folder, metadata, ids, labels, predictions, log, text, provenance.get("versions") or {})
    _check_metrics(path, run, split)
    return run


def group_runs(runs: Sequence[FinetunedRun]) -> dict[str, dict[tuple[str, float], list[FinetunedRun]]]:
    """Group comparable runs: task → (name, data fraction) → runs, one for each seed.

    Raises:
        ValueError: runs of one task differ in kind, ids or labels; runs of one name in method or model; or a run is
            repeated.
    """
    tasks: dict[str, dict[tuple[str, float], list[FinetunedRun]]] = {}
    first: dict[str, FinetunedRun] = {}
    for run in runs:
        _check_same_rows(first.setdefault(run.task, run), run)
        replicates = tasks.setdefault(run.task, {}).setdefault((run.name, run.fraction), [])
        for other in replicates:
            _check_replicates(other, run)
        replicates.append(run)
    return tasks


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no metrics.json; give folders of finished `genolm finetune` runs")
    metadata = _json_object(path.read_bytes(), path)
    for key, kind in {"name": str, "task": dict, "method": str, "seed": int}.items():
        if not isinstance(metadata.get(key), kind):
            raise ValueError(f"{path}: key {key!r} is {metadata.get(key)!r}; is it a run of `genolm finetune`?")
    if metadata["task"].get("kind") not in KINDS:
        raise ValueError(f"{path}: task kind is {metadata['task'].get('kind')!r}; allowed: {', '.join(KINDS)}")
    names = metadata["task"].get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: task names are {names!r}; allowed: a list of the task's classes, labels or targets")
    return metadata


def _json_object(text: str | bytes, where: str | Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} is damaged: not a JSON object")
    return value


def _read_log(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [_json_object(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


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
        present = ", ".join(sorted({str(name) for name in splits})) or "none"
        raise ValueError(f"{path} has no rows of split {split!r}; its splits: {present}; see --split")
    table = table.select(columns).take(pa.array(rows))
    values = []
    for name, lists in zip(("label", "prediction"), DEPTH[kind], strict=True):
        try:
            # Rows of several bases stay arrays of their own length.
            values.append(_array(table[name].combine_chunks(), lists, ragged=kind in ("per-base", "tracks")))
        except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: column {name} does not fit a {kind} task: {str(error).splitlines()[0]}"
            ) from error
    return np.array(table["id"].cast(pa.string()).to_pylist(), dtype=str), values[0], values[1]


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
        rows = np.empty(len(lengths), dtype=object)
        rows[:] = np.split(values, np.cumsum(lengths)[:-1])
        return rows
    if len(set(lengths)) > 1:
        raise ValueError(f"rows hold {lengths.min()} to {lengths.max()} values")
    return values.reshape(len(lengths), -1)


def _check_metrics(path: Path, run: FinetunedRun, split: str) -> None:
    """Refuse a run whose metrics.json does not follow from its predictions."""
    try:
        computed = compute_metrics(*run.measured())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, saved in (run.metadata.get(split) or {}).items():
        saved = saved.get("value") if isinstance(saved, dict) else saved
        value = computed.get(name)
        if value is not None and isinstance(saved, int | float) and abs(saved - value) > 1e-4 * max(1, abs(saved)):
            raise ValueError(
                f"{path} gives {name} {value:.4f} on split {split}, but its metrics.json has {saved:.4f}; "
                "the two files are from different runs, or one was changed"
            )


def _check_same_rows(first: FinetunedRun, run: FinetunedRun) -> None:
    both = f"{first.folder} and {run.folder}"
    tasks = [one.metadata["task"] for one in (first, run)]
    if tasks[0] != tasks[1]:
        raise ValueError(f"{both} have different tasks, {tasks[0]} and {tasks[1]}; compare them separately")
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
            f"{_short(one)} and {_short(other)}). They come from different tables or from different columns of one"
        )


def _differ(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the indices of rows with unequal labels; NaN equals NaN."""
    if labels.dtype == object:
        pairs = enumerate(zip(labels, others, strict=True))
        return np.array([k for k, (one, other) in pairs if not np.array_equal(one, other, equal_nan=True)], dtype=int)
    if labels.shape != others.shape:
        return np.arange(len(labels))
    unequal = (labels != others) & ~(np.isnan(labels) & np.isnan(others))
    return np.flatnonzero(unequal.reshape(len(labels), -1).any(axis=1))


def _check_replicates(other: FinetunedRun, run: FinetunedRun) -> None:
    both = f"{other.folder} and {run.folder} are both named {run.name!r}"
    if other.metadata["seed"] == run.metadata["seed"]:
        raise ValueError(
            f"{both} with seed {run.metadata['seed']}; leave one out, or give them different names in their recipes"
        )
    for key in ("method", "model"):
        if other.metadata.get(key) != run.metadata.get(key):
            raise ValueError(
                f"{both}, but their {key} differs: {other.metadata.get(key)!r} and {run.metadata.get(key)!r}; "
                "only seeds of one configuration are averaged: give them different names in their recipes"
            )


def _some(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 40 else f"{text[:39]}…"


DEPTH = {"binary": (0, 0), "multiclass": (0, 1), "multilabel": (1, 1), "regression": (1, 1)}
DEPTH |= {"per-base": (1, 2), "tracks": (2, 2)}
"""Kind of task → nesting depth of the lists of a label and of a prediction."""


def write_predictions(path: Path, parts: Iterable[tuple[str, Labelled, list[np.ndarray]]]) -> None:
    """Write predictions to a Parquet file, atomically.

    Args:
        path: the file.
        parts: split, its rows, and the prediction of each, as `genolm.inference.predict` returns it.
    """
    tables = []
    for split, labelled, values in parts:
        label, prediction = DEPTH[labelled.task.kind]
        whole = labelled.task.kind in ("binary", "multiclass", "per-base")
        columns = {
            "id": pa.array([str(name) for name in labelled.ids], pa.string()),
            "split": pa.array([split] * len(labelled), pa.string()),
            "label": _column(labelled.labels, label, pa.int64() if whole else pa.float64()),
            "prediction": _column(values, prediction, pa.float64()),
        }
        tables.append(pa.table(columns))
    with atomic_path(path) as partial:
        pq.write_table(pa.concat_tables(tables), partial)


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write nested tables of metrics as JSON, atomically; NaN, which JSON lacks, as null."""
    write_text(path, json.dumps(_without_nan(metrics), indent=1))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _column(values: Any, depth: int, kind: pa.DataType) -> pa.Array:
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.array([value.tolist() for value in map(np.asarray, values)], kind)
