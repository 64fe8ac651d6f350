"""Read label columns: the kind of task and its labels as numbers.

The task is inferred where it is not given, which a note says, and refused where it could be two things.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("binary", "multiclass", "multilabel", "regression", "per-base", "tracks")
PER_BASE = ("per-base", "tracks")
"""Kinds with answers at every base."""
MAX_NUMBERED_CLASSES = 20
"""Whole numbers of more values than this may be counts: the task must then be named."""
MAX_NAMED_CLASSES = 100
UNKNOWN = -100
"""Label of a base whose class is not known; losses of torch leave it out."""

_MISSING = {"", "na", "n/a", "nan", "null"}
_WHOLE = re.compile(r"[+-]?\d+")
_SEPARATED = re.compile(r"[;,|\s]+")


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Attributes:
        kind: binary, multiclass, multilabel, regression, per-base or tracks.
        names: binary, multiclass, per-base: the classes in order of their index; multilabel: the labels; regression
            and tracks: the targets.

    Raises:
        ValueError: another kind, no names, or a binary task of other than two classes.
    """

    kind: str
    names: tuple[str, ...]

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"task {self.kind!r} is unknown; allowed are {', '.join(KINDS)}")
        if not self.names or (self.kind == "binary" and len(self.names) != 2):
            raise ValueError(f"a {self.kind} task of {len(self.names)} classes: {', '.join(self.names)}")


Where = Callable[[int], str]
Columns = dict[str, list[Any]]


def read_targets(
    columns: Columns,
    lengths: Sequence[int],
    where: Where,
    task: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Task, np.ndarray, tuple[str, ...]]:
    """Turn the label columns of a table into a task and its labels.

    Args:
        columns: column → n values, text or as a Parquet or JSONL file holds them.
        lengths: n lengths of sequences, bp.
        where: row → the file and line that messages name.
        task: one of `KINDS`, or None to infer it.
        classes: classes in order of their index, or names of labels or targets; None for those in the table.

    Returns:
        The task; labels as in `genolm.labels.dataset.Labelled`; notes on what was inferred.

    Raises:
        ValueError: a task that cannot be inferred, a label that is missing or not among the classes, or of another
            length than the others or its sequence, or only one class.
    """
    if task is not None and task not in KINDS:
        raise ValueError(f"labels.task is {task!r}; allowed are {', '.join(KINDS)}")
    classes = None if classes is None else tuple(str(name) for name in classes)
    lists = _as_lists(columns, lengths, task)
    kind = task or _infer(columns, lists, lengths, where)
    if kind in ("per-base", "tracks"):
        lists = lists or {name: [_parts(value) for value in column] for name, column in columns.items()}
        made = _along(kind, lists, lengths, where, classes)
    elif kind in ("multilabel", "regression"):
        made = _numbers(kind, _flat(lists, where, classes) if lists else columns, where, classes)
    else:
        made = _classes(task, columns, where, classes)
    task_made, labels = made
    kind = task_made.kind
    shown = ", ".join(task_made.names[:8]) + (f", … ({len(task_made.names)})" if len(task_made.names) > 8 else "")
    how = "as asked" if task else "inferred; set labels.task to say otherwise"
    what = {"multilabel": "labels", "regression": "targets", "tracks": "targets"}.get(kind, "classes")
    notes = [f"task: {kind}, {what} {shown} ({how})"]
    if lists and kind not in ("binary", "multiclass"):
        notes.append("labels are read as a list in every row")
    if kind in ("multilabel", "regression") and (unknown := int(np.isnan(labels).sum())):
        notes.append(f"{unknown:,} of {labels.size:,} labels are not known (NaN)")
    return task_made, labels, tuple(notes)


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    """Return a number, NaN for one that is missing, or None for what is no number."""
    if _missing(value):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _parts(value: Any) -> list[Any]:
    """Return the members of a list or of its text, of text separated by ; , | or spaces, or characters."""
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    if not isinstance(value, str):
        return [value]
    value = value.strip()
    if value.startswith("["):
        try:
            return list(json.loads(value))
        except ValueError:
            value = value.strip("[]").strip()  # as numpy prints them: [0 1 0]
    if _SEPARATED.search(value):
        # Two separators other than spaces hold a missing value between them.
        return [part.strip() for part in re.split(r"\s*[;,|]\s*|\s+", value)]
    return list(value)


def _as_lists(columns: Columns, lengths: Sequence[int], task: str | None) -> dict[str, list[list]]:
    """Return the columns as lists in every row if they all hold such, else nothing."""
    if task in ("binary", "multiclass"):
        return {}
    lists = {}
    for name, column in columns.items():
        given = [value for value in column if not _missing(value)] if not _nested(column) else column
        if not given:
            return {}
        if _nested(given) or all(isinstance(value, str) and _is_list_text(value) for value in given):
            lists[name] = [_parts(value) for value in column]
        elif all(isinstance(value, str) for value in given) and _most_along(column, lengths, 4):
            lists[name] = [list(value) for value in column]  # one character a base
        else:
            return {}
    return lists


def _most_along(column: Sequence[Any], lengths: Sequence[int], least: int = 2) -> bool:
    """Say whether most values are as long as their sequence; the others are then reported by their row."""
    along = sum(
        len(value) == length >= least for value, length in zip(column, lengths, strict=True) if value is not None
    )
    return 2 * along > len(column)


def _nested(column: Sequence[Any]) -> bool:
    return any(isinstance(value, list | tuple | np.ndarray) for value in column)


def _is_list_text(value: str) -> bool:
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        return True
    parts = _SEPARATED.split(value)
    return len(parts) > 1 and all(_number(part) is not None for part in parts)


def _infer(columns: Columns, lists: dict[str, list[list]], lengths: Sequence[int], where: Where) -> str:
    """Return the kind of task that the values can only be."""
    if lists:
        members = [value for column in lists.values() for values in column for value in values]
        if all(_most_along(column, lengths) for column in lists.values()):
            if len(columns) > 1 or not all(_is_class_of_base(value) for value in members):
                return "tracks"
            if len(set(members)) > MAX_NUMBERED_CLASSES:
                raise ValueError(
                    f"the bases have {len(set(members)):,} different labels: classes or amounts? set labels.task to "
                    "per-base or tracks"
                )
            return "per-base"
        return _many(members, "lists")
    if len(columns) > 1:
        return _many([value for column in columns.values() for value in column], f"columns {', '.join(columns)}")
    (name, column), *_ = columns.items()
    distinct = {str(value).strip() for value in column if not _missing(value)}
    numbers = {value: _number(value) for value in distinct}
    if None in numbers.values():
        rows = [row for row, value in enumerate(column) if not _missing(value) and _number(value) is None]
        if len(rows) < 0.1 * len(column) and len(distinct) > MAX_NUMBERED_CLASSES:
            raise ValueError(f"{where(rows[0])}: label {column[rows[0]]!r} is no number, as nearly all others are")
        if len(distinct) > MAX_NAMED_CLASSES:
            raise ValueError(
                f"column {name!r} has {len(distinct):,} different labels, such as {min(distinct)!r}; set labels.task "
                "to multiclass if they are classes, or labels.columns.label to another column"
            )
        return "multiclass"
    values = set(numbers.values())
    if all(_WHOLE.fullmatch(value) for value in distinct) or values <= {0.0, 1.0}:
        if len(distinct) <= MAX_NUMBERED_CLASSES:
            return "multiclass"
        raise ValueError(
            f"column {name!r} has {len(distinct):,} different whole numbers: classes or amounts? "
            "set labels.task to multiclass or regression"
        )
    return "regression"


def _is_class_of_base(value: Any) -> bool:
    if isinstance(value, str):
        return value == "." or "." not in value
    return value is None or isinstance(value, int | np.integer)


def _many(members: Sequence[Any], what: str) -> str:
    """Tell several labels from several targets."""
    values = {_number(value) for value in members}
    if None in values:
        raise ValueError(f"the label {what} hold what is no number; set labels.task, or labels.columns.label")
    values = {value for value in values if value == value}
    if values <= {0.0, 1.0}:
        return "multilabel"
    if all(value == int(value) for value in values):
        raise ValueError(
            f"the label {what} hold whole numbers other than 0 and 1; set labels.task, such as to regression"
        )
    return "regression"


def _classes(kind: str | None, columns: Columns, where: Where, classes) -> tuple[Task, np.ndarray]:
    """Return class tasks: (n,) int64; binary or multiclass by the number of classes where kind is None."""
    if len(columns) > 1:
        raise ValueError(f"a {kind} task has one column of labels, not {len(columns)}: {', '.join(columns)}")
    values = next(iter(columns.values()))
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | dict | np.ndarray):
            raise ValueError(f"{where(row)}: the label is a {type(value).__name__}; a class is a word or a number")
    text = {value: _class_name(value) for value in set(values)}
    names = [text[value] for value in values]
    if "" in text.values():
        raise ValueError(f"{where(names.index(''))}: the label is missing")
    distinct, index = _class_index(set(names), classes)
    if unknown := set(distinct) - set(index):
        row = next(row for row, name in enumerate(names) if name in unknown)
        raise ValueError(f"{where(row)}: label {names[row]!r} is not among the classes {', '.join(index)}")
    if len(distinct) < 2:
        raise ValueError(f"{where(0)}: all {len(values):,} rows have the label {distinct[0]!r}; one class is no task")
    if kind is None:
        kind = "binary" if len(index) == 2 else "multiclass"
    if kind == "binary" and len(index) != 2:
        raise ValueError(f"labels.task is binary, but there are {len(index)} classes: {', '.join(list(index)[:8])}")
    return Task(kind, tuple(index)), np.array([index[name] for name in names], dtype=np.int64)


def _class_index(names: set[str], classes: Sequence[str] | None) -> tuple[list[str], dict[str, int]]:
    """Return names in order, numbers by their size, and class → index, of the classes given or of the names."""
    distinct = sorted(names)
    if all(_number(name) is not None for name in distinct):
        distinct.sort(key=float)
    return distinct, {name: i for i, name in enumerate(distinct if classes is None else classes)}


def _class_name(value: Any) -> str:
    """Return a class as text: 1, 1.0, True and ' 1' are all `1`."""
    if _missing(value):
        return ""
    text, number = str(value).strip(), _number(value)
    if number is None or number != int(number) or (isinstance(value, str) and _WHOLE.fullmatch(text)):
        return text
    return str(int(number))


def _flat(lists: dict[str, list[list]], where: Where, names) -> Columns:
    """Return lists of one length as columns `label_0`, `label_1` and so on."""
    if len(lists) > 1:
        raise ValueError(f"several columns of lists: {', '.join(lists)}; one column holds them all, or each one value")
    (column, rows), *_ = lists.items()
    sizes = [len(values) for values in rows if values]
    width = len(names) if names is not None else max(set(sizes), key=sizes.count)
    for row, values in enumerate(rows):
        if all(_missing(value) for value in values) and len(values) < 2:
            raise ValueError(f"{where(row)}: the label is missing")
        if len(values) != width:
            raise ValueError(f"{where(row)}: {len(values)} labels; the other rows have {width}")
    return {f"{column}_{i}": [values[i] for values in rows] for i in range(width)}


def _numbers(kind: str, columns: Columns, where: Where, names) -> tuple[Task, np.ndarray]:
    """Return multilabel and regression tasks: (n, T) float64, NaN where not known."""
    names = tuple(columns) if names is None else names
    if len(names) != len(columns):
        raise ValueError(f"labels.classes names {len(names)} targets, the table has {len(columns)}")
    labels = np.empty((len(next(iter(columns.values()))), len(columns)))
    for i, (name, column) in enumerate(columns.items()):
        numbers = [_number(value) for value in column]
        if None in numbers:
            row = numbers.index(None)
            raise ValueError(f"{where(row)}: {name} is {column[row]!r}; it must be a finite number")
        labels[:, i] = numbers
        given = labels[~np.isnan(labels[:, i]), i]
        if not len(given):
            raise ValueError(f"{where(0)}: {name} is not known in any row")
        if kind == "multilabel" and not np.isin(given, (0, 1)).all():
            row = int(np.flatnonzero(~np.isnan(labels[:, i]) & ~np.isin(labels[:, i], (0, 1)))[0])
            raise ValueError(f"{where(row)}: {name} is {column[row]!r}; a label is 0, 1 or not known")
        if kind == "regression" and len(given) > 1 and given.min() == given.max():
            raise ValueError(f"{where(0)}: {name} is {given[0]:g} in every row; there is nothing to learn")
    if kind == "multilabel" and len(set(labels[~np.isnan(labels)].tolist())) < 2:
        raise ValueError(f"{where(0)}: every label of every row is the same; one class is no task")
    return Task(kind, names), labels


def _along(kind: str, lists: dict[str, list[list]], lengths, where: Where, names) -> tuple[Task, np.ndarray]:
    """Return labels of every base: (n,) object of (L,) int64, or for tracks of (L, T) float64."""
    for column in lists.values():
        for row, (values, length) in enumerate(zip(column, lengths, strict=True)):
            if len(values) != length:
                raise ValueError(f"{where(row)}: labels of {len(values)} bases, but the sequence has {length}")
    labels = np.empty(len(lengths), dtype=object)
    if kind == "tracks":
        for row in range(len(lengths)):
            labels[row] = _tracks([column[row] for column in lists.values()], where(row))
        widths = [track.shape[1] for track in labels]
        width = len(names) if names is not None else widths[0]
        if set(widths) != {width}:
            row = next(row for row, size in enumerate(widths) if size != width)
            raise ValueError(f"{where(row)}: {widths[row]} tracks where {width} are expected")
        if names is None:
            names = tuple(lists) if len(lists) == width else tuple(f"{next(iter(lists))}_{i}" for i in range(width))
        return Task(kind, names), labels
    if len(lists) > 1:
        raise ValueError(f"a per-base task has one column of labels, not {len(lists)}: {', '.join(lists)}")
    rows = [[_class_name(value) for value in values] for values in next(iter(lists.values()))]
    # The class of a base is not known where it is missing, `.` or -100.
    rows = [["" if name in (".", str(UNKNOWN)) else name for name in row] for row in rows]
    distinct, index = _class_index({name for row in rows for name in row} - {""}, names)
    if len(distinct) < 2:
        raise ValueError(f"{where(0)}: every base of every row has the same label; one class is no task")
    for row, names_of_bases in enumerate(rows):
        if unknown := set(names_of_bases) - set(index) - {""}:
            raise ValueError(f"{where(row)}: label {min(unknown)!r} is not among the classes {', '.join(index)}")
        labels[row] = np.array([index.get(name, UNKNOWN) for name in names_of_bases], dtype=np.int64)
    return Task(kind, tuple(index)), labels


def _tracks(columns: list[list], where: str) -> np.ndarray:
    """Return (L, T) float64 of T lists of L, or of one list of L lists of T."""
    rows = columns[0] if len(columns) == 1 and _nested(columns[0]) else list(zip(*columns, strict=True))
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{where}: some bases have more tracks than others")
    numbers = [[_number(value) for value in row] for row in rows]
    if any(None in row for row in numbers):
        raise ValueError(f"{where}: a track holds what is no finite number")
    return np.array(numbers, dtype=np.float64)
