"""Read tables as columns, with the line of every row: CSV, TSV, BED, JSONL, Parquet, and datasets of the Hub.

Text is read by Python's csv module, which knows the line a row began on: a million rows of 200 bp in 3 to 4 s.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genolm.genome.interval import bed_columns
from genolm.genome.sniff import BROKEN, foreign_format, open_decompressed

SUFFIXES = (".csv", ".tsv", ".txt", ".bed", ".jsonl", ".parquet")
BED_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")
_COMMENTS = re.compile(r"(?:##[^\n]*(?:\n|$)|[ \t]*\r?\n)*")
_ACCEPTED = ("FASTQ", "GFF", "VCF", "GenBank", "EMBL")
"""Formats that begin as a table or its comments may."""
_ADVICE = {"FASTA": "a table with labels is needed, its FASTA goes into labels.fasta"}


@dataclass(frozen=True)
class LabelTable:
    """The rows of one file.

    Attributes:
        path: the file as it was named, or `name (split)` of a dataset of the Hub.
        columns: name → values, one a row: text where the file is text, else what the file holds; None is a null.
        lines: line of each row, 1-based, the header counted; where a file has no lines, number of the row, from 1.
        has_lines: False for Parquet and for the Hub.
    """

    path: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]
    has_lines: bool = True

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int, whole_path: bool = True) -> str:
        """Name a row, counted from 0, as messages do: `file.csv:17`, or `file.parquet:row 17`."""
        path = self.path if whole_path else self.path.rsplit("/", 1)[-1]
        return f"{path}:{'' if self.has_lines else 'row '}{self.lines[row]}"


def is_hub_name(name: str | Path) -> bool:
    """Return whether a table is named like a dataset of the Hub, and is no file."""
    return bool(HUB_NAME.fullmatch(str(name))) and suffix(name) not in SUFFIXES and not Path(name).exists()


def suffix(path: str | Path) -> str:
    """Return the suffix that says what a file is, `.gz` apart and in lower case: `.csv` of `a.CSV.gz`."""
    return Path(Path(path).name.lower().removesuffix(".gz").removesuffix(".bgz")).suffix


def read_table(path: str | Path) -> LabelTable:
    """Read a whole table by the suffix of its name: .csv, .tsv, .txt, .bed, .jsonl, each also .gz, or .parquet.

    A .txt is separated by tabs if its header has any, else by commas. Lines that start with ## before the header are
    comments. A .bed has no header: its columns are named chrom, start, end, name, score, strand, then column7 and so
    on.

    Raises:
        ValueError: no such file, another suffix, a file that cannot be read, an empty one, or a row that has more or
            fewer values than the header, named by its line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: {'this is a folder; name the file in it' if path.is_dir() else 'no such file'}")
    kind = suffix(path)
    if kind not in SUFFIXES:
        raise ValueError(f"{path}: cannot tell what this is; allowed are {', '.join(SUFFIXES)}, the text ones also .gz")
    if kind == ".parquet":
        table = _read_parquet(path)
    else:
        text = _text(path)
        if kind == ".jsonl":
            columns, lines = _read_jsonl(path, text)
        elif kind == ".bed":
            columns, lines = _read_bed(path, text)
        else:
            comments = _COMMENTS.match(text)
            begin = comments.end() if comments else 0
            tabs = kind == ".tsv" or (kind == ".txt" and "\t" in text[begin:].split("\n", 1)[0])
            columns, lines = _read_csv(path, text, "\t" if tabs else ",", begin)
        table = LabelTable(str(path), columns, lines)
    if not len(table):
        raise ValueError(f"{path}: the table has no rows")
    return table


def _text(path: Path) -> str:
    """Return a file's text, decompressed where it is gzip by its content."""
    try:
        with open_decompressed(path) as file:
            data = file.read()
    except BROKEN as error:
        raise ValueError(f"{path}: broken or truncated gzip ({error}); copy or download the file again") from None
    if not data.strip():
        raise ValueError(f"{path}: the file is empty")
    if foreign := foreign_format(data[:512], "a table with labels", _ACCEPTED, _ADVICE):
        raise ValueError(f"{path}: this is {foreign}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8") from None


def _csv_rows(path: Path, text: str, separator: str, begin: int) -> Iterator[tuple[int, list[str]]]:
    """Yield line and values of every row that is not blank, from a place of the text on."""
    limit, above = csv.field_size_limit(sys.maxsize), text.count("\n", 0, begin)
    begins = above + 1
    try:
        source = io.StringIO(text, newline="")
        source.seek(begin)
        reader = csv.reader(source, delimiter=separator, strict=True)
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                yield begins, row
            begins = above + reader.line_num + 1
    except csv.Error as error:
        reason = 'a quote (") is never closed' if "unexpected end" in str(error) else f"bad quoting ({error})"
        raise ValueError(f"{path}:{begins}: {reason}") from None
    finally:
        csv.field_size_limit(limit)


def _read_csv(path: Path, text: str, separator: str, begin: int) -> tuple[dict[str, list[Any]], list[int]]:
    """Return columns and lines of what stands from a place of the text on."""
    rows = _csv_rows(path, text, separator, begin)
    line, header = next(rows, (0, []))
    if not header:
        raise ValueError(f"{path}: only comments (##); the line with the names of the columns is missing")
    header = [name.strip() for name in header]
    _check_header(f"{path}:{line}", header)
    return _columns(path, header, rows)


def _columns(path: Path, header: list[str], rows: Iterator) -> tuple[dict[str, list[Any]], list[int]]:
    lines: list[int] = []
    values: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}:{line}: this row has {len(row)} value{'s' * (len(row) != 1)}, the first line has {len(header)}"
            )
        lines.append(line)
        values.append(row)
    return dict(zip(header, (list(column) for column in zip(*values, strict=True)), strict=False)), lines


def _check_header(where: str, header: Sequence[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: column {twice[0]!r} is there twice; names must differ")


def _read_bed(path: Path, text: str) -> tuple[dict[str, list[Any]], list[int]]:
    lines = enumerate(map(str.rstrip, io.StringIO(text, newline="")), 1)
    rows = [(line, columns) for line, row in lines if (columns := bed_columns(row))]
    if not rows:
        return {}, []
    width = len(rows[0][1])
    if width < 3:
        raise ValueError(f"{path}:{rows[0][0]}: BED needs chrom, start and end, separated by tabs")
    header = [BED_COLUMNS[i] if i < len(BED_COLUMNS) else f"column{i + 1}" for i in range(width)]
    return _columns(path, header, iter(rows))


def _read_jsonl(path: Path, text: str) -> tuple[dict[str, list[Any]], list[int]]:
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    # JSON text may hold line separators that str.splitlines knows; only newlines end a row.
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        try:
            record = json.loads(row)
        except ValueError as error:
            raise ValueError(f"{path}:{line}: not JSON ({error}); every line must be one object") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{line}: {type(record).__name__}; every line must be one object: {{...}}")
        for name in record:
            if name not in columns:
                columns[name] = [None] * len(lines)
        for name, column in columns.items():
            column.append(record.get(name))
        lines.append(line)
    return columns, lines


def _read_parquet(path: Path) -> LabelTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not Parquet, or damaged: {str(error).splitlines()[0]}") from None
    _check_header(str(path), table.column_names)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return LabelTable(str(path), columns, range(1, table.num_rows + 1), has_lines=False)


def read_hub(name: str) -> dict[str, LabelTable]:
    """Read every split of a dataset of the Hugging Face Hub: `owner/name`, or `owner/name:configuration`.

    Where the dataset declares no such configuration, its folder of that name is read.

    Raises:
        ValueError: the Hub cannot be reached, or has no such dataset.
    """
    from datasets import load_dataset

    repository, _, configuration = name.partition(":")
    try:
        try:
            splits = load_dataset(repository, configuration or None)
        except ValueError as error:
            if not configuration or "BuilderConfig" not in str(error):
                raise
            splits = load_dataset(repository, data_dir=configuration)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{name}: no such file here, and the Hub gives no dataset of that name ({first}); check labels.table, "
            "or the connection (HF_HUB_OFFLINE keeps it off)"
        ) from None
    return {
        str(split): LabelTable(
            f"{name} ({split})",
            {column: list(data[column]) for column in data.column_names},
            range(1, len(data) + 1),
            has_lines=False,
        )
        for split, data in splits.items()
    }
