"""Labelled variants from tables: one row per ALT, labels and scores from one file or joined from two.

    chrom  pos  ref  alt  label  genolm_llr …      pos is 1-based; chromosome, position, reference … are accepted too

Every row is used, or left out for a reason that is counted; the join of two tables drops no row.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.alleles import VARIANT_COLUMNS, canonical
from genolm.labels.table import LabelTable, read_table

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


_MISSING = {"", ".", "na", "nan", "none", "null"}
_PREFIX = "genolm_"
# Columns that `genolm score` adds to its scores: the status, whether a window was cut, the difference between the
# strands, and the z-score of an indel among random ones, which no SNV has.
_NO_SCORE = re.compile(r"(status|cut|strands|_z)$", re.IGNORECASE)


@dataclass(frozen=True)
class Variants:
    """Labelled variants.

    Attributes:
        chrom: shape (n,), names as the table spells them.
        start: shape (n,), int64, 0-based first base of REF.
        ref: shape (n,), of A, C, G, T.
        alt: likewise; may be longer or shorter than ref, never equal.
        labels: shape (n,), 0 or 1 where `kind` is binary, else numbers.
        kind: binary or regression.
        scores: column → shape (n,), float64.
        groups: shape (n,), group numbers of the bootstrap, or None where it draws rows.
        num_read: rows in the file.
        left_out: reason → rows; with len(self) they add up to num_read.
        notes: for the user, one line each.
    """

    chrom: np.ndarray
    start: np.ndarray
    ref: np.ndarray
    alt: np.ndarray
    labels: np.ndarray
    kind: str
    scores: dict[str, np.ndarray]
    groups: np.ndarray | None
    num_read: int
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start)

    def keep(self, reasons: np.ndarray) -> "Variants":
        """Return the rows whose reason, shape (n,) of str, is empty; the others are counted by their reason."""
        kept = reasons == ""
        left_out = Counter(self.left_out) + Counter(map(str, reasons[~kept]))
        columns = {name: getattr(self, name)[kept] for name in ("chrom", "start", "ref", "alt", "labels")}
        scores = {name: values[kept] for name, values in self.scores.items()}
        groups = None if self.groups is None else np.unique(self.groups[kept], return_inverse=True)[1]
        return replace(self, **columns, scores=scores, groups=groups, left_out=dict(left_out))


def read_variants(
    path: str | Path,
    label: str,
    *,
    other: str | Path | None = None,
    scores: Sequence[str] | None = None,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    group: str | None = None,
) -> Variants:
    """Read labelled variants.

    Args:
        path: table with a row for each ALT.
        label: its column of 0 and 1, of words, or of numbers.
        other: a second table with further columns of the same variants, joined on chrom, pos, ref and alt; its further
            variants are counted in a note.
        scores: columns of numbers; None: all that begin with genolm_ and are scores by their name, if any.
        positive: words of the label column that are label 1. Needed where labels are words.
        negative: words that are label 0; none: all others. A row with another word is left out.
        group: column whose values are drawn together by the bootstrap.

    Raises:
        ValueError: naming file and line: a missing column, a value that is not a number, a variant that occurs twice or
            is missing in `other`, labels of one class only, or no row left.
    """
    table = read_table(path)
    keys = variant_keys(table)
    refuse_repeats(table, keys)
    columns, notes = table_columns(table, range(len(table))), []
    if other is not None:
        joined, note = join(table, keys, read_table(other))
        columns |= {f"{name} of {Path(other).name}" if name in columns else name: joined[name] for name in joined}
        notes += [note] if note else []
    score_names = _score_columns(columns, scores, notes)
    for name in (label, *score_names, *([group] if group else [])):
        if name not in columns:
            raise ValueError(f"{path}: no column {name!r}; there are {', '.join(columns)}")
    reasons = _unusable(columns, keys)
    texts = _texts(columns[label])
    _leave_out(reasons, np.array([_is_missing(text) for text in texts]), "no label")
    labels, kind, other_word = _labels(columns[label], label, texts, positive, negative, reasons)
    _leave_out(reasons, other_word, "label neither positive nor negative")
    numbers = {name: _numbers(columns[name], name, reasons) for name in score_names}
    for name, values in numbers.items():
        _leave_out(reasons, np.isnan(values), f"no {name}")
    groups = None
    if group is not None:
        words = _texts(columns[group])
        _leave_out(reasons, np.array([_is_missing(word) for word in words]), f"no {group}")
        groups = np.unique(words, return_inverse=True)[1]
    _, pos, ref, alt = (np.array(column, dtype=object) for column in zip(*keys, strict=True))
    chrom = np.array(_texts(columns[key_columns(table)["chrom"]]), dtype=object)
    start = pos.astype(np.int64) - 1
    read = Variants(chrom, start, ref, alt, labels, kind, numbers, groups, len(table), {}, tuple(notes)).keep(reasons)
    refuse_constant_labels(read, f"{path}: {label!r}")
    return read


def refuse_constant_labels(variants: Variants, what: str) -> None:
    """Refuse variants without rows or with one label only; `what` names them in the message."""
    why = "".join(f"; {count:,} left out: {reason}" for reason, count in variants.left_out.items())
    if not len(variants):
        raise ValueError(f"{what}: none of {variants.num_read:,} rows can be used{why}")
    values = np.unique(variants.labels)
    if len(values) == 1:
        hint = "both positive and negative rows are needed" if variants.kind == "binary" else "they must differ"
        raise ValueError(f"{what}: all {len(variants):,} rows have label {values[0]:g}; {hint}{why}")


def _score_columns(columns: dict[str, Column], requested: Sequence[str] | None, notes: list[str]) -> list[str]:
    """Return the requested columns, else all that are scores by their name and hold numbers."""
    if requested is not None:
        repeated = [name for name, count in Counter(requested).items() if count > 1]
        if repeated:
            raise ValueError(f"--scores names {repeated[0]!r} twice")
        return list(requested)
    names = []
    for name in columns:
        if not name.lower().startswith(_PREFIX) or _NO_SCORE.search(name):
            continue
        first = next((text for text in _texts(columns[name]) if not _is_missing(text)), "")
        if math.isnan(_number(first)):
            notes.append(f"column {name!r} holds {first!r} and is not read as a score; --scores names columns")
        else:
            names.append(name)
    return names


def _unusable(columns: dict[str, Column], keys: Sequence[Key]) -> np.ndarray:
    """Return why a row is left out, or an empty text, shape (n,)."""
    reasons = np.full(len(keys), "", dtype=object)
    status = status_column(columns)
    words = ["scored"] * len(keys) if status is None else _texts(columns[status])
    for row, (word, (_, pos, ref, alt)) in enumerate(zip(words, keys, strict=True)):
        if word != "scored":
            reasons[row] = f"status {word or 'not known'}"
        elif pos < 1:
            reasons[row] = "pos before the first base"
        elif not ref or not alt or set(ref + alt) - set("ACGT"):
            reasons[row] = "REF or ALT has letters other than A, C, G, T"
        elif ref == alt:
            reasons[row] = "ALT is REF"
    return reasons


def _leave_out(reasons: np.ndarray, rows: np.ndarray, reason: str) -> None:
    """Set the reason of rows, shape (n,) bool, that have none yet."""
    reasons[(reasons == "") & rows] = reason


def _texts(column: Column) -> list[str]:
    return [cell_text(value) for value in column.values]


def _is_missing(text: str) -> bool:
    return text.lower() in _MISSING


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _numbers(column: Column, name: str, reasons: np.ndarray) -> np.ndarray:
    """Return a column as numbers, NaN where missing; only rows in use are checked."""
    numbers = np.full(len(column.values), np.nan)
    for row, text in enumerate(_texts(column)):
        if reasons[row] or _is_missing(text):
            continue
        numbers[row] = _number(text)
        if not math.isfinite(numbers[row]):
            raise ValueError(f"{column.where(row)}: {name} is {text!r}; give a number, or nothing where missing")
    return numbers


def _labels(
    column: Column,
    name: str,
    texts: list[str],
    positive: Sequence[str],
    negative: Sequence[str],
    reasons: np.ndarray,
) -> tuple[np.ndarray, str, np.ndarray]:
    """Return labels (n,), their kind, and which rows have a word that is neither positive nor negative."""
    used = np.flatnonzero(reasons == "")
    counts = Counter(texts[row] for row in used)
    words = ", ".join(f"{word} ({count:,})" for word, count in counts.most_common(8))
    if positive:
        return _word_labels(name, texts, positive, negative, counts, words)
    if negative:
        raise ValueError("--negative needs --positive, the label of the other class")
    booleans = {"true": 1.0, "false": 0.0}
    values = np.array([booleans.get(text.lower(), _number(text)) for text in texts])
    wrong = used[~np.isfinite(values[used])]
    if len(wrong) and len(wrong) < len(used) / 2:
        raise ValueError(f"{column.where(wrong[0])}: {name} is {texts[wrong[0]]!r}, and most others are numbers")
    if len(wrong):
        raise ValueError(f"column {name!r} holds words: {words}; say which is label 1: --positive WORD")
    kind = "binary" if np.isin(values[used], (0, 1)).all() else "regression"
    return values, kind, np.zeros(len(texts), dtype=bool)


def _word_labels(name, texts, positive, negative, counts: Counter, words: str) -> tuple[np.ndarray, str, np.ndarray]:
    """Return what `_labels` returns, of words that the user named."""
    for word in (*positive, *negative):
        if word not in counts:
            option = "--positive" if word in positive else "--negative"
            raise ValueError(f"{option} {word!r} does not occur in column {name!r}; there are {words or 'none'}")
    both = set(positive).intersection(negative)
    if both:
        raise ValueError(f"{sorted(both)[0]!r} cannot be both --positive and --negative")
    is_positive = np.isin(texts, list(positive))
    neither = ~is_positive & ~np.isin(texts, list(negative)) if negative else np.zeros(len(texts), dtype=bool)
    return is_positive.astype(np.float64), "binary", neither
