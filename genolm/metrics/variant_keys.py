"""Which rows of two tables are the same variant: contig names, columns, and a join that drops no row."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from genolm.genome.alleles import VARIANT_COLUMNS
from genolm.genome.chromosomes import canonical
from genolm.labels.table import LabelTable

STATUS = "genolm_status"
Key = tuple[str, int, str, str]
"""Chromosome (canonical), pos, REF and ALT (upper case) of a variant."""


@dataclass(frozen=True)
class Column:
    """Values of one column, and the file and line of each for messages."""

    values: list[Any]
    where: Callable[[int], str]


def table_columns(table: LabelTable, rows: Sequence[int]) -> dict[str, Column]:
    """Return name → column of these rows of a table."""
    return {
        name: Column([values[row] for row in rows], lambda i: table.where(rows[i]))
        for name, values in table.columns.items()
    }


def key_columns(table: LabelTable) -> dict[str, str]:
    """Return chrom, pos, ref and alt → the column that holds it."""
    columns = {}
    for key in ("chrom", "pos", "ref", "alt"):
        names = [name for name in table.columns if name.lower() in VARIANT_COLUMNS[key]]
        if len(names) != 1:
            got = f"columns {' and '.join(map(repr, names))} both name" if names else "no column names"
            raise ValueError(f"{table.path}: {got} {key!r}; there are {', '.join(table.columns)}")
        columns[key] = names[0]
    return columns


def variant_keys(table: LabelTable) -> list[Key]:
    """Return the key of every row; pos is 0 where it is not a number and the row has no score."""
    columns, scored = key_columns(table), scored_rows(table)
    keys = []
    for row, (chrom, pos, ref, alt) in enumerate(zip(*(table.columns[name] for name in columns.values()), strict=True)):
        place, alts = cell_text(pos), cell_text(alt)
        is_whole = place.isascii() and place.isdigit() and len(place) < 16
        if not is_whole and scored[row]:
            raise ValueError(
                f"{table.where(row)}: {columns['pos']} is {place!r}; give a whole number, 1 for the first base"
            )
        if "," in alts:
            raise ValueError(f"{table.where(row)}: {columns['alt']} is {alts!r}; give each ALT a row of its own")
        keys.append((canonical(cell_text(chrom)), int(place) if is_whole else 0, cell_text(ref).upper(), alts.upper()))
    return keys


def status_column(columns: Iterable[str]) -> str | None:
    """Return the column that says whether a row was scored, if there is one."""
    return next((name for name in columns if name.lower() == STATUS), None)


def scored_rows(table: LabelTable) -> list[bool]:
    """Return for every row whether it may have a score."""
    name = status_column(table.columns)
    return [True] * len(table) if name is None else [cell_text(word) == "scored" for word in table.columns[name]]


def refuse_repeats(table: LabelTable, keys: Sequence[Key], among: set[Key] | None = None) -> None:
    """Refuse a table that scores a variant twice, of any variant or of those in `among`."""
    first_row: dict[Key, int] = {}
    repeats = []
    for row, (key, scored) in enumerate(zip(keys, scored_rows(table), strict=True)):
        if scored and (among is None or key in among) and first_row.setdefault(key, row) != row:
            repeats.append((first_row[key], row))
    if repeats:
        first, second = repeats[0]
        raise ValueError(
            f"{table.path}: {len(repeats):,} row{'s repeat' if len(repeats) > 1 else ' repeats'} a variant "
            f"({key_text(keys[first])} in rows {table.lines[first]} and {table.lines[second]}); keep one of them"
        )


def join(table: LabelTable, keys: Sequence[Key], other: LabelTable) -> tuple[dict[str, Column], str]:
    """Return the columns of the other table in the row order of this one, and a note on its further variants."""
    other_keys, needed, scored = variant_keys(other), set(keys), scored_rows(other)
    refuse_repeats(other, other_keys, needed)
    row_of: dict[Key, int] = {}
    for row, key in enumerate(other_keys):
        if scored[row] or key not in row_of:
            row_of[key] = row
    absent = [row for row, key in enumerate(keys) if key not in row_of]
    if absent:
        raise ValueError(
            f"{table.where(absent[0])}: {key_text(keys[absent[0]])} is not in {other.path}, nor are {len(absent):,} of "
            f"{len(keys):,} variants in all. Alleles must be spelled alike in both files"
        )
    columns = table_columns(other, [row_of[key] for key in keys])
    for name in key_columns(other).values():
        del columns[name]
    more = len(set(row_of) - needed)
    return columns, f"{other.path}: {more:,} variants have no label and are not used" if more else ""


def key_text(key: Key) -> str:
    """Format a variant as `1:100 A>G`."""
    return "{}:{} {}>{}".format(*key)


def cell_text(value: Any) -> str:
    """Return a cell as text, the same whether it came from a text file or from Parquet."""
    if value is None:
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value).strip()
