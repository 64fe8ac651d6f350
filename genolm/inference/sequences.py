"""Unlabelled sequences to predict or embed: the records of a FASTA, or the rows of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genolm.genome.extract import FASTA_SUFFIXES, read_records
from genolm.labels.columns import read_rows
from genolm.labels.dataset import Labelled
from genolm.labels.task import Task


def read_sequences(path: str, fasta: str | None, columns: Sequence[str], task: Task) -> tuple[Labelled, list[str]]:
    """Read sequences as rows of a task without labels.

    Args:
        path: a FASTA; or a table with sequences, or with intervals of a FASTA.
        fasta: the FASTA of a table of intervals.
        columns: names of columns in the table, such as `sequence=seq`.
        task: of the rows.

    Returns:
        The rows, and notes for the user.
    """
    notes: list[str] = []
    if path.endswith(FASTA_SUFFIXES):
        if columns or fasta:
            raise ValueError(f"{path} is a FASTA; --column and --fasta are for tables")
        ids, sequences, source = read_records(path)
    else:
        pairs = [word.partition("=") for word in columns]
        names: dict[str, Any] = {key: value if value not in ("", "null") else None for key, _, value in pairs}
        try:
            rows = read_rows(path, fasta, {"label": None} | names, need_labels=False)
        except ValueError as error:
            raise ValueError(with_options(str(error))) from None
        ids, sequences, source = rows.ids, rows.sequences, rows.source
        notes = [with_options(note) for note in rows.notes]
    blank = np.full(len(ids), "")
    return Labelled(task, np.array(ids), sequences, np.zeros(len(ids)), blank, np.array(source)), notes


def with_options(message: str) -> str:
    """Name the command's options in a message instead of the keys of a recipe."""
    return message.replace("labels.columns.", "--column ").replace("labels.fasta", "--fasta")
