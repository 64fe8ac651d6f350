"""Read labelled tables (CSV, TSV, BED, JSONL, Parquet, or a dataset of the Hub): sequences, labels and splits.

    table.py    file → columns, each row with its line
    columns.py  columns → sequences, ids, splits, intervals
    task.py     label columns → task and labels

Cost: about 11 s for a million rows of 200 bp, a third of it to parse them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.extract import FASTA_SUFFIXES, read_records
from genolm.genome.interval import Interval
from genolm.labels.columns import read_rows
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
    made, labels, notes = read_targets(rows.labels, lengths, lambda row: str(rows.source[row]), task, classes)
    return Labelled(made, rows.ids, rows.sequences, labels, rows.split, rows.source, rows.intervals, rows.notes + notes)


def read_unlabelled(
    path: str, fasta: str | None, column: Sequence[str]
) -> tuple[np.ndarray, list[str], np.ndarray, tuple[str, ...]]:
    """Read sequences that have no labels, from a FASTA or a table, as commands name them.

    Args:
        path: a FASTA, or a table of sequences or of intervals.
        fasta: for the intervals of a table.
        column: `sequence=seq` and the like: our name of a column and the table's, empty to leave it unused.

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
