"""Read labelled tables (CSV, TSV, BED, JSONL, Parquet, or a dataset of the Hub): sequences, labels and splits.

    table.py    file → columns, each row with its line
    dataset.py  columns → sequences, ids, splits, intervals: a table holds sequences, or intervals of a FASTA file
    task.py     label columns → task and labels

Cost: about 11 s for a million rows of 200 bp, a third of it to parse them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.alphabet import clean_sequences
from genolm.genome.fasta import FASTA_SUFFIXES, extract_intervals, read_records
from genolm.genome.interval import Interval, IntervalError
from genolm.labels.table import LabelTable, is_hub_name, read_hub, read_table, suffix
from genolm.labels.task import Task, read_targets


@dataclass(frozen=True)
class Labelled:
    """Sequences and their labels.

    Attributes:
        task: kind of task, and its classes or targets.
        ids: (n,) str, unique; `row-17` where the table names none, 17 being its row counted from 1.
        sequences: n texts of A, C, G, T and N.
        labels: binary, multiclass: (n,) int64. multilabel, regression: (n, T) float64, NaN = missing. per-base: (n,)
            object of (L,) int64, -100 = missing. tracks: (n,) object of (L, T) float64, NaN = missing. Those of
            bases follow the letters as they stand here: of a minus strand, its own 5' → 3'.
        split: (n,) str: train, valid or test, or `` where none is given.
        source: (n,) str, file and line for messages: `promoters.csv:17`, the header being line 1.
        intervals: where each row lies, 0-based half-open, or None where the table does not say.
        notes: what was inferred or replaced while reading, one line each, for the user to see.
    """

    task: Task
    ids: np.ndarray
    sequences: list[str]
    labels: np.ndarray
    split: np.ndarray
    source: np.ndarray
    intervals: list[Interval] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Labelled":
        """Return some rows, in the order of their indices (m,) int, or those where a mask (n,) bool is True."""
        indices = np.asarray(indices)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)
        return replace(
            self,
            ids=self.ids[indices],
            sequences=[self.sequences[i] for i in indices],
            labels=self.labels[indices],
            split=self.split[indices],
            source=self.source[indices],
            intervals=None if self.intervals is None else [self.intervals[i] for i in indices],
        )


def read_labels(
    table: str | Path | Mapping[str, Any],
    fasta: str | Path | Sequence[str | Path] | None = None,
    columns: Mapping[str, Any] | None = None,
    task: str | None = None,
    classes: Sequence[str] | None = None,
) -> Labelled:
    """Read a labelled table.

    Args:
        table: a .csv, .tsv, .txt, .bed, .jsonl (each also .gz) or .parquet file; or split → file or list of files:
            `{train: a.csv, valid: b.csv, test: c.csv}`; or, where a file holds one class, class → file, alone or for
            each split: `{train: {negative: a.csv, positive: b.csv}, test: …}`; or, where no such file exists, a
            dataset of the Hub, `owner/name` or `owner/name:configuration`.
        fasta: FASTA files that hold the contigs, for a table of intervals: chrom, start, end and perhaps strand,
            0-based half-open; `-` is read as the reverse complement.
        columns: our name (sequence, label, split, id, chrom, start, end, strand) → the table's; for label also a list
            of columns. None for a name leaves that column unused. Common other names are found without.
        task: binary, multiclass, multilabel, regression, per-base or tracks; None infers it, and says so in the notes.
        classes: classes in order of their index, or names of labels or targets; None takes those made, sorted.

    Raises:
        ValueError: a file that cannot be read, or a row that cannot be used, named by file and line; or a task that
            cannot be inferred from the labels.
    """
    rows = read_rows(table, fasta, columns)
    lengths = [len(sequence) for sequence in rows.sequences]
    made, labels, notes = read_targets(rows.labels, lengths, rows.where, task, classes)
    return Labelled(made, rows.ids, rows.sequences, labels, rows.split, rows.source, rows.intervals, rows.notes + notes)


def read_unlabelled(
    path: str, fasta: str | None, column: Sequence[str]
) -> tuple[np.ndarray, list[str], np.ndarray, tuple[str, ...]]:
    """Read sequences that have no labels, from a FASTA or a table, as commands name them.

    `fasta` is for the intervals of a table; `column` holds `sequence=seq` and the like, our name of a column and the
    table's, empty to leave it unused.

    Returns:
        (n,) ids, n sequences, (n,) file and line, notes for the user.

    Raises:
        ValueError: anything that is wrong with a file or a row, named by its line.
    """
    if path.endswith(FASTA_SUFFIXES):
        if column or fasta:
            raise ValueError(f"{path} is a FASTA; --column and --fasta are for tables")
        names, sequences, source = read_records(path)
        return np.array(names), sequences, np.array(source), ()
    pairs = [word.partition("=") for word in column]
    columns = {"label": None} | {name: value if value not in ("", "null") else None for name, _, value in pairs}
    try:
        rows = read_rows(path, fasta, columns, need_labels=False)
    except ValueError as error:
        raise ValueError(_as_options(str(error))) from None
    return rows.ids, rows.sequences, rows.source, tuple(map(_as_options, rows.notes))


def unlabelled_rows(ids: np.ndarray, sequences: list[str], source: np.ndarray, task: Task | None = None) -> Labelled:
    """Return sequences without labels as rows; the task is of what is predicted for them."""
    none = np.full(len(ids), "")
    return Labelled(task or Task("regression", ("embedding",)), ids, sequences, np.zeros(len(ids)), none, source)


def _as_options(message: str) -> str:
    """Replace keys of a recipe in a message by the options of a command."""
    return message.replace("labels.columns.", "--column ").replace("labels.fasta", "--fasta")


SPLITS = ("train", "valid", "test")
_SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("valid", "dev", "validation", "val", "eval"), "valid"
)
ALIASES = {
    "sequence": ("sequence", "seq", "sequences", "dna", "dna_sequence"),
    "label": ("label", "labels", "target", "targets", "class", "y"),
    "split": ("split", "set", "partition"),
    "id": ("id", "seq_id", "sequence_id", "name"),
    "chrom": ("chrom", "#chrom", "chr", "chromosome", "contig", "region"),
    "start": ("start", "chromstart"),
    "end": ("end", "stop", "chromend"),
    "strand": ("strand",),
}
"""Our name → names of columns, in any case, that are taken for it; the first is taken even if others are there."""


@dataclass(frozen=True)
class TableRows:
    """The rows of tables as in `Labelled`, but labels as in the file: column → n values; empty where none is needed."""

    ids: np.ndarray
    sequences: list[str]
    split: np.ndarray
    source: np.ndarray
    intervals: list[Interval] | None
    labels: dict[str, list[Any]]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sequences)

    def where(self, row: int) -> str:
        """Return file and line of a row, for messages."""
        return str(self.source[row])


@dataclass(frozen=True)
class _Part:
    """One file: its table, its split, the class of all its rows, and a prefix for ids that recur between files."""

    table: LabelTable
    split: str = ""
    label: str | None = None
    key: str = ""


def read_rows(
    table: str | Path | Mapping[str, Any],
    fasta: str | Path | Sequence[str | Path] | None = None,
    columns: Mapping[str, Any] | None = None,
    need_labels: bool = True,
) -> TableRows:
    """Read tables, and the sequences of their intervals; arguments and errors as in `read_labels`.

    A table without labels is refused where `need_labels` is set.
    """
    notes: dict[str, None] = {}  # ordered, each once
    parts = _parts(table, notes)
    columns = dict(columns or {})
    for name, value in columns.items():
        if name not in ALIASES:
            raise ValueError(f"labels.columns.{name} is no column of ours; allowed are {', '.join(ALIASES)}")
        if not (value is None or isinstance(value, str) or (name == "label" and isinstance(value, list) and value)):
            raise ValueError(f"labels.columns.{name} is {value!r}; give the name of a column")
    read = [_read_part(part, fasta is not None, columns, need_labels, notes) for part in parts]
    if len({tuple(rows.labels) for rows in read}) > 1:
        raise ValueError(f"the files have labels in different columns: {[list(rows.labels) for rows in read]}")
    rows = _concatenate(read, [part.key for part in parts], notes)
    if not rows.sequences[0]:
        assert fasta is not None and rows.intervals is not None
        rows = replace(rows, sequences=extract_intervals(_listed(fasta), rows.intervals, rows.where))
    sequences, said = clean_sequences(rows.sequences, rows.where)
    return replace(rows, sequences=sequences, notes=(*notes, *said))


def _parts(table: str | Path | Mapping[str, Any], notes: dict[str, None]) -> list[_Part]:
    """Read every file, with the split and class that the mapping gives it."""
    if not isinstance(table, Mapping):
        if is_hub_name(table):
            return _hub_parts(str(table), notes)
        return [_Part(read_table(table))]
    in_splits = {name: _SPLIT_NAMES.get(str(name).lower()) for name in table}
    if any(in_splits.values()) and not all(in_splits.values()):
        wrong = next(name for name, split in in_splits.items() if not split)
        raise ValueError(f"labels.table.{wrong} is no split; allowed are {', '.join(SPLITS)}")
    groups = [(in_splits[name] or "", value) for name, value in table.items()]
    if not all(in_splits.values()):
        groups = [("", table)]
    parts = []
    for split, value in groups:
        for label, files in value.items() if isinstance(value, Mapping) else [(None, value)]:
            label, files = None if label is None else str(label), _listed(files)
            for i, file in enumerate(files, 1):
                key = "/".join(filter(None, [split, label, str(i) if len(files) > 1 else ""]))
                parts.append(_Part(read_table(file), split, label, key))
    if not parts:
        raise ValueError("labels.table names no file")
    if len({part.label is None for part in parts}) > 1:
        raise ValueError("labels.table names classes for some splits only; name them for all, or for none")
    return parts


def _hub_parts(name: str, notes: dict[str, None]) -> list[_Part]:
    tables = read_hub(name)
    parts = []
    for split, table in tables.items():
        if our_split := _SPLIT_NAMES.get(split.lower()):
            parts.append(_Part(table, our_split, key=split))
            notes[f"split {split} of {name}: taken as {our_split}"] = None
        else:
            notes[f"split {split} of {name}: left out"] = None
    if not parts:
        raise ValueError(f"{name} has the splits {', '.join(tables)}; at least one of train, valid and test is needed")
    return parts


def _find_columns(part: _Part, columns: dict[str, Any], notes: dict[str, None]) -> dict[str, Any]:
    """Return our name → the table's, for every column of the table; of an interval either all or none."""
    table, is_bed = part.table, suffix(part.table.path) == ".bed"
    mapping = {name: value for name, value in columns.items() if value is not None}
    for name, value in mapping.items():
        for column in _listed(value):
            if column not in table.columns:
                raise ValueError(f"{table.path}: no column {column!r} (labels.columns.{name}); {_has(table)}")
    if part.label is not None:
        columns = columns | {"label": None}
        mapping.pop("label", None)
    elif is_bed and "label" not in columns and "name" in table.columns:
        mapping["label"] = "name"
        notes["label: column 4 of the BED file (name)"] = None
    taken = {column for value in mapping.values() for column in _listed(value)}
    for name, aliases in ALIASES.items():
        if name in columns or name in mapping:
            continue
        alike = [column for column in table.columns if column.strip().lower() in aliases and column not in taken]
        alike = [name] if name in alike else alike
        if len(alike) > 1 and name in ("id", "split"):
            notes[f"{name}: not read, since it may be any of {', '.join(alike)}; see labels.columns.{name}"] = None
        elif len(alike) > 1:
            raise ValueError(
                f"{table.path}: {name} may be any of the columns {', '.join(alike)}; say which in labels.columns.{name}"
            )
        elif alike:
            mapping[name] = alike[0]
            taken.add(alike[0])
    if not {"chrom", "start", "end"} <= set(mapping):
        mapping = {name: value for name, value in mapping.items() if name not in ("chrom", "start", "end", "strand")}
    for name, column in mapping.items():
        if name not in columns and column != name and not is_bed:
            notes[f"{name}: column {column!r}"] = None
    return mapping


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _has(table: LabelTable) -> str:
    columns = list(table.columns)
    shown = ", ".join(column if len(column) < 40 else f"{column[:40]}…" for column in columns[:20])
    hint = ""
    if len(columns) == 1 and any(mark in columns[0] for mark in "\t;"):
        hint = "; it seems separated by tabs or semicolons: a tab-separated file is named .tsv"
    elif any(re.fullmatch("[ACGTNacgtn]{10,}", column) for column in columns):
        hint = "; the first line must name the columns"
    return f"it has {shown}{hint}"


def _read_part(part: _Part, has_fasta: bool, columns: dict[str, Any], need_labels: bool, notes: dict[str, None]):
    """Return the rows of one file, without the sequences of intervals."""
    table = part.table
    mapping = _find_columns(part, columns, notes)
    labels = {name: table.columns[name] for name in _listed(mapping.get("label", []))}
    if part.label is not None:
        labels = {"label": [part.label] * len(table)}
    if not labels and need_labels:
        raise ValueError(f"{table.path}: no column for the label (labels.columns.label); {_has(table)}")
    intervals, sequences = None, [""] * len(table)
    if "sequence" in mapping:
        sequences = table.columns[mapping["sequence"]]
        if has_fasta:
            notes["sequence: as in the table; the FASTA file is not read"] = None
    elif "chrom" not in mapping:
        raise ValueError(
            f"{table.path}: no column for the sequence (labels.columns.sequence), nor chrom, start and end; "
            f"{_has(table)}"
        )
    elif not has_fasta:
        raise ValueError(f"{table.path}: chrom, start and end need a FASTA file: set labels.fasta")
    if "chrom" in mapping:
        try:
            intervals = _intervals(table, mapping)
        except ValueError as error:
            if "sequence" not in mapping:
                raise
            notes[f"chrom, start and end are not used: {error}"] = None
    for row, sequence in enumerate(sequences if "sequence" in mapping else ()):
        if not isinstance(sequence, str) or not sequence.strip():
            raise ValueError(f"{table.where(row)}: the sequence is {'empty' if not sequence else 'no text'}")
    return TableRows(
        _ids(table, mapping.get("id")),
        [sequence.strip() for sequence in sequences],
        _splits(part, mapping.get("split"), notes),
        np.array([table.where(row, whole_path=False) for row in range(len(table))]),
        intervals,
        labels,
        (),
    )


def _ids(table: LabelTable, column: str | None) -> np.ndarray:
    if column is None:
        return np.array([f"row-{row + 1}" for row in range(len(table))])
    seen: dict[str, int] = {}
    for row, value in enumerate(table.columns[column]):
        name = "" if value is None else str(value).strip()
        if not name:
            raise ValueError(f"{table.where(row)}: the id is missing")
        if name in seen:
            raise ValueError(
                f"{table.where(row)}: id {name!r} is also on line {table.lines[seen[name]]}; ids must differ "
                "(labels.columns.id=null numbers the rows instead)"
            )
        seen[name] = row
    return np.array(list(seen))


def _splits(part: _Part, column: str | None, notes: dict[str, None]) -> np.ndarray:
    table = part.table
    if part.split or column is None:
        if column is not None:
            notes[f"column {column!r} is not used: labels.table names the splits"] = None
        return np.full(len(table), part.split, dtype="<U5")
    names = []
    for row, value in enumerate(table.columns[column]):
        name = _SPLIT_NAMES.get(str(value).strip().lower())
        if name is None:
            raise ValueError(
                f"{table.where(row)}: split is {value!r}; allowed are train, valid (or dev, val) and test "
                "(labels.columns.split=null leaves the column unused)"
            )
        if name != value:
            notes[f"split {value!r}: taken as {name}"] = None
        names.append(name)
    return np.array(names, dtype="<U5")


def _intervals(table: LabelTable, mapping: dict[str, Any]) -> list[Interval]:
    chrom, start, end = (table.columns[mapping[name]] for name in ("chrom", "start", "end"))
    strand = table.columns[mapping["strand"]] if "strand" in mapping else ["+"] * len(table)
    made = []
    for row, (contig, first, last, sign) in enumerate(zip(chrom, start, end, strand, strict=True)):
        try:
            if int(first) != float(first) or int(last) != float(last):
                raise ValueError
            made.append(Interval(str(contig), int(first), int(last), str(sign or "+").strip()))
        except (ValueError, TypeError) as error:
            reason = f"start {first!r} and end {last!r} must be whole numbers"
            raise ValueError(f"{table.where(row)}: {error if isinstance(error, IntervalError) else reason}") from None
    return made


def _concatenate(read: list[TableRows], keys: list[str], notes: dict[str, None]) -> TableRows:
    """Concatenate the rows of all files; ids that recur between files get a prefix."""
    ids = np.concatenate([rows.ids for rows in read])
    if len(read) > 1 and len(set(ids.tolist())) < len(ids):
        ids = np.array([f"{key}/{name}" for rows, key in zip(read, keys, strict=True) for name in rows.ids.tolist()])
        notes[f"ids recur between files: they are written as {ids[0]}"] = None
    if len({rows.sequences[0] == "" for rows in read}) > 1:
        raise ValueError("some files have a column for the sequence and others intervals; let all have the same")
    placed = [rows.intervals for rows in read if rows.intervals is not None]
    return TableRows(
        ids,
        [sequence for rows in read for sequence in rows.sequences],
        np.concatenate([rows.split for rows in read]),
        np.concatenate([rows.source for rows in read]),
        [interval for part in placed for interval in part] if len(placed) == len(read) else None,
        {name: [value for rows in read for value in rows.labels[name]] for name in read[0].labels},
        (),
    )
