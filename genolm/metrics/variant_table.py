"""Labelled variants from tables: one row per ALT, scores beside labels, from one file or joined from two.

    chrom  pos  ref  alt  label  genolm_llr …      pos is 1-based; chromosome, position, reference … are understood too

A row is used or left out for a reason that is counted; no row is dropped unsaid.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genolm.labels.table import read_table
from genolm.metrics.variant_keys import (
    Column,
    columns_of,
    join,
    key_columns,
    keys_of,
    refuse_twice,
    status_column,
    text_of,
)

_MISSING = {"", ".", "na", "nan", "none", "null"}
_PREFIX = "genolm_"
# What `genolm score` writes beside scores: the status, whether a window was cut, the difference between the strands,
# and how an indel stands among random ones, which no SNV has.
_NO_SCORE = re.compile(r"(status|cut|strands|_z)$", re.IGNORECASE)


@dataclass(frozen=True)
class Variants:
    """Variants with a label each.

    Attributes:
        chrom: n names as the table spells them.
        start: shape (n,), int64, 0-based first base of REF.
        ref: n texts of A, C, G, T.
        alt: likewise; may be longer or shorter than ref, never equal.
        labels: shape (n,), 0 or 1 where `kind` is binary, else numbers.
        kind: binary or regression.
        scores: column → shape (n,), float64.
        groups: shape (n,), group numbers of the bootstrap, or None where it draws rows.
        num_read: rows in the file.
        left_out: reason → rows; with len(self) they add up to num_read.
        notes: for the user to see, one line each.
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
        left_out = Counter(self.left_out)
        left_out.update(str(reason) for reason in reasons[reasons != ""])
        kept = reasons == ""
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
        other: a second table with further columns of the same variants, joined on chrom, pos, ref and alt. What it
            holds beyond the first is counted in a note.
        scores: columns of numbers; None: all that begin with genolm_ and are scores by their name, if any.
        positive: words of the label column that are label 1. Needed where labels are words.
        negative: words that are label 0; none: all others. A row with another word is left out.
        group: column whose values are drawn together by the bootstrap.

    Raises:
        ValueError: naming file and line: a column that is not there, a value that is no number, a variant that is there
            twice or without its partner in `other`, labels of one class only, or no row left.
    """
    table = read_table(path)
    keys = keys_of(table)
    refuse_twice(table, keys, None)
    columns, notes = columns_of(table, range(len(table))), []
    if other is not None:
        joined, note = join(table, keys, read_table(other))
        columns |= {f"{name} of {Path(other).name}" if name in columns else name: joined[name] for name in joined}
        notes += [note] if note else []
    named = _score_columns(columns, scores, notes)
    for name in (label, *named, *([group] if group else [])):
        if name not in columns:
            raise ValueError(f"{path}: no column {name!r}; there are {', '.join(columns)}")
    reasons = _unusable(columns, keys)
    texts = [text_of(value) for value in columns[label].values]
    reasons = _first_reason(reasons, np.array([_is_missing(text) for text in texts]), "no label")
    labels, kind, other_word = _labels(columns[label], label, texts, positive, negative, reasons)
    reasons = _first_reason(reasons, other_word, "label neither positive nor negative")
    numbers = {name: _numbers(columns[name], name, reasons) for name in named}
    for name, values in numbers.items():
        reasons = _first_reason(reasons, np.isnan(values), f"no {name}")
    groups = None
    if group is not None:
        words = np.array([text_of(value) for value in columns[group].values], dtype=object)
        reasons = _first_reason(reasons, np.array([_is_missing(word) for word in words]), f"no {group}")
        groups = np.unique(words.astype(str), return_inverse=True)[1]
    chrom, pos, ref, alt = (np.array(column, dtype=object) for column in zip(*keys, strict=True))
    spelled = np.array([text_of(value) for value in table.columns[key_columns(table)["chrom"]]], dtype=object)
    start = pos.astype(np.int64) - 1
    read = Variants(spelled, start, ref, alt, labels, kind, numbers, groups, len(table), {}, tuple(notes)).keep(reasons)
    check_labels(read, f"{path}: {label!r}")
    return read


def check_labels(variants: Variants, what: str) -> None:
    """Refuse labels that nothing can be told from, naming them by `what`."""
    why = "".join(f"; {count:,} left out: {reason}" for reason, count in variants.left_out.items())
    if not len(variants):
        raise ValueError(f"{what}: none of {variants.num_read:,} rows can be used{why}")
    values = np.unique(variants.labels)
    if len(values) == 1:
        hint = "both positive and negative rows are needed" if variants.kind == "binary" else "they must differ"
        raise ValueError(f"{what}: all {len(variants):,} rows have label {values[0]:g}; {hint}{why}")


def _score_columns(columns: dict[str, Column], asked: Sequence[str] | None, notes: list[str]) -> list[str]:
    """Return the columns asked for, else all that are scores by their name and hold numbers."""
    if asked is not None:
        twice = [name for name, count in Counter(asked).items() if count > 1]
        if twice:
            raise ValueError(f"--scores names {twice[0]!r} twice")
        return list(asked)
    found = []
    for name in columns:
        if not name.lower().startswith(_PREFIX) or _NO_SCORE.search(name):
            continue
        first = next((text for text in map(text_of, columns[name].values) if not _is_missing(text)), "")
        if math.isnan(_number(first)):
            notes.append(f"column {name!r} holds {first!r} and is taken for no score; --scores names columns")
        else:
            found.append(name)
    return found


def _unusable(columns: dict[str, Column], keys: list[tuple]) -> np.ndarray:
    """Return why a row is left out, or an empty text, shape (n,)."""
    reasons = np.full(len(keys), "", dtype=object)
    status = status_column(columns)
    for row, (_, pos, ref, alt) in enumerate(keys):
        word = "scored" if status is None else text_of(columns[status].values[row])
        if word != "scored":
            reasons[row] = f"status {word or 'not known'}"
        elif pos < 1:
            reasons[row] = "pos before the first base"
        elif not ref or not alt or set(ref + alt) - set("ACGT"):
            reasons[row] = "REF or ALT has letters other than A, C, G, T"
        elif ref == alt:
            reasons[row] = "ALT is REF"
    return reasons


def _first_reason(reasons: np.ndarray, wrong: np.ndarray, reason: str) -> np.ndarray:
    return np.where((reasons == "") & wrong, reason, reasons)


def _is_missing(text: str) -> bool:
    return text.lower() in _MISSING


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _numbers(column: Column, name: str, reasons: np.ndarray) -> np.ndarray:
    """Return a column as numbers, NaN where missing; only rows in use are held to it."""
    found = np.full(len(column.values), np.nan)
    for row, value in enumerate(column.values):
        text = text_of(value)
        if reasons[row] or _is_missing(text):
            continue
        found[row] = _number(text)
        if not math.isfinite(found[row]):
            raise ValueError(f"{column.where(row)}: {name} is {text!r}; give a number, or nothing where not known")
    return found


def _labels(
    column: Column,
    name: str,
    texts: list[str],
    positive: Sequence[str],
    negative: Sequence[str],
    reasons: np.ndarray,
) -> tuple[np.ndarray, str, np.ndarray]:
    """Return labels (n,), their kind, and which rows have a word that is neither positive nor negative."""
    used = [row for row in range(len(texts)) if not reasons[row]]
    counts = Counter(texts[row] for row in used)
    seen = ", ".join(f"{word} ({count:,})" for word, count in counts.most_common(8))
    nowhere = np.zeros(len(texts), dtype=bool)
    if positive:
        for word in (*positive, *negative):
            if word not in counts:
                option = "--positive" if word in positive else "--negative"
                raise ValueError(f"{option} {word!r} is no value of column {name!r}; there are {seen or 'none'}")
        both = set(positive).intersection(negative)
        if both:
            raise ValueError(f"{sorted(both)[0]!r} cannot be both --positive and --negative")
        words = np.array(texts, dtype=object)
        is_positive = np.isin(words, list(positive))
        neither = ~is_positive & ~np.isin(words, list(negative)) if negative else nowhere
        return is_positive.astype(np.float64), "binary", neither
    if negative:
        raise ValueError("--negative needs --positive, the label of the other class")
    words_of = {"true": 1.0, "false": 0.0}
    values = np.array([words_of.get(text.lower(), _number(text)) for text in texts])
    wrong = [row for row in used if not math.isfinite(values[row])]
    if wrong and len(wrong) < len(used) / 2:
        raise ValueError(f"{column.where(wrong[0])}: {name} is {texts[wrong[0]]!r}, and most others are numbers")
    if wrong:
        raise ValueError(f"column {name!r} holds words: {seen}; say which is label 1: --positive WORD")
    kind = "binary" if {values[row] for row in used} <= {0.0, 1.0} else "regression"
    return values, kind, nowhere
