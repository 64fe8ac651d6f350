"""Which rows of two tables are the same variant: contig names, columns, and a join that loses nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from genolm.genome.alleles import VARIANT_COLUMNS
from genolm.genome.chromosomes import canonical
from genolm.labels.table import Table

STATUS = "genolm_status"


@dataclass(frozen=True)
class Column:
    """Values of one column, and the place of each for messages."""

    values: list[Any]
    where: Callable[[int], str]


def columns_of(table: Table, rows: Sequence[int]) -> dict[str, Column]:
    """Return name → column of these rows of a table."""
    return {
        name: Column([values[row] for row in rows], lambda i: table.where(rows[i]))
        for name, values in table.columns.items()
    }


def key_columns(table: Table) -> dict[str, str]:
    """Return chrom, pos, ref and alt → the column that holds it."""
    found = {}
    for key in ("chrom", "pos", "ref", "alt"):
        there = [name for name in table.columns if name.lower() in VARIANT_COLUMNS[key]]
        if len(there) != 1:
            got = f"columns {' and '.join(map(repr, there))} both name" if there else "no column names"
            raise ValueError(f"{table.path}: {got} {key!r}; there are {', '.join(table.columns)}")
        found[key] = there[0]
    return found


def keys_of(table: Table) -> list[tuple[str, int, str, str]]:
    """Return chrom (canonical), pos, ref and alt (upper case) of every row; pos 0 where it is none and no score is."""
    named, scored = key_columns(table), scored_rows(table)
    found = []
    for row, (chrom, pos, ref, alt) in enumerate(zip(*(table.columns[name] for name in named.values()), strict=True)):
        place, alts = text_of(pos), text_of(alt)
        is_whole = place.isascii() and place.isdigit() and len(place) < 16
        if not is_whole and scored[row]:
            raise ValueError(
                f"{table.where(row)}: {named['pos']} is {place!r}; give a whole number, 1 for the first base"
            )
        if "," in alts:
            raise ValueError(f"{table.where(row)}: {named['alt']} is {alts!r}; give each ALT a row of its own")
        key = canonical(text_of(chrom)), int(place) if is_whole else 0, text_of(ref).upper(), alts.upper()
        found.append(key)
    return found


def status_column(columns: Iterable[str]) -> str | None:
    """Return the column that says whether a row was scored, if there is one."""
    return next((name for name in columns if name.lower() == STATUS), None)


def scored_rows(table: Table) -> list[bool]:
    """Return for every row whether a score can be asked of it."""
    name = status_column(table.columns)
    return [True] * len(table) if name is None else [text_of(word) == "scored" for word in table.columns[name]]


def refuse_twice(table: Table, keys: list[tuple], asked: set[tuple] | None) -> None:
    """Refuse a variant of `asked` (None: any) that was scored twice."""
    seen: dict[tuple, int] = {}
    again = []
    for row, (key, scored) in enumerate(zip(keys, scored_rows(table), strict=True)):
        if not scored or (asked is not None and key not in asked):
            continue
        if seen.setdefault(key, row) != row:
            again.append((seen[key], row))
    if again:
        first, second = again[0]
        raise ValueError(
            f"{table.path}: {len(again):,} row{'s repeat' if len(again) > 1 else ' repeats'} a variant "
            f"({spell(keys[first])} in rows {table.lines[first]} and {table.lines[second]}); give each variant one row"
        )


def join(table: Table, keys: list[tuple], other: Table) -> tuple[dict[str, Column], str]:
    """Return the columns of the other table in the order of this one, and a note on what else it holds."""
    theirs, asked, scored = keys_of(other), set(keys), scored_rows(other)
    refuse_twice(other, theirs, asked)
    row_of: dict[tuple, int] = {}
    for row, key in enumerate(theirs):
        if scored[row] or key not in row_of:
            row_of[key] = row
    absent = [row for row, key in enumerate(keys) if key not in row_of]
    if absent:
        raise ValueError(
            f"{table.where(absent[0])}: {spell(keys[absent[0]])} is not in {other.path}; so with {len(absent):,} of "
            f"{len(keys):,} variants. Alleles must be spelled alike in both files"
        )
    columns = columns_of(other, [row_of[key] for key in keys])
    for name in key_columns(other).values():
        del columns[name]
    more = len(set(row_of) - asked)
    return columns, f"{other.path}: {more:,} variants have no label and are not used" if more else ""


def spell(key: tuple) -> str:
    """Write a variant as `1:100 A>G`."""
    return "{}:{} {}>{}".format(*key)


def text_of(value: Any) -> str:
    """Return a cell as text, the same whether it came from a text file or from Parquet."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
