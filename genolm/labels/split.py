"""Split rows into train, valid and test: by a column, by contig, by fold, or at random.

Rows of one sequence, of either strand, stay together wherever rows are drawn at random, so that no split made here
leaks a copy. Every draw is a function of the seed and the row's number, so that 10 % of the rows lie within 30 %.
"""

from collections.abc import Sequence

import numpy as np

from genolm.data import rng
from genolm.genome.alphabet import COMPLEMENT
from genolm.labels.dataset import Labelled

STREAM_SPLIT, STREAM_FRACTION = 101, 102
_COMPLEMENT = COMPLEMENT.tobytes().decode("latin-1")


def canonical_strand(sequence: str) -> str:
    """Return a sequence or its reverse complement, whichever comes first in the alphabet: equal for both strands."""
    return min(sequence, sequence.translate(_COMPLEMENT)[::-1])


def sequence_groups(sequences: Sequence[str]) -> np.ndarray:
    """Return (n,) int64: equal for rows of one sequence or its reverse complement, numbered as they first appear."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(canonical_strand(sequence), len(seen)) for sequence in sequences], dtype=np.int64)


def split_rows(
    labelled: Labelled,
    by: str = "column",
    valid: float = 0.1,
    test: float = 0.1,
    valid_contigs: Sequence[str] = (),
    test_contigs: Sequence[str] = (),
    folds: int = 5,
    fold: int = 0,
    stratified: bool = True,
    seed: int = 0,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Split rows into train, valid and test.

    Args:
        labelled: the rows.
        by: `column`: as the table says; where it names no valid or no test rows, they are drawn from its train rows.
            `contig`: whole contigs. `fold`: one of `folds` equal parts is test, valid is drawn from the rest.
            `random`: drawn from all rows.
        valid: fraction of the rows that are drawn from; 0 draws none.
        test: likewise, for `fold` without effect.
        valid_contigs: contigs whose rows are valid; empty to choose some by the fraction.
        test_contigs: likewise.
        folds: number of folds, 2 or more.
        fold: which of them is test, from 0.
        stratified: draw the same fraction of every class, where a row has one.
        seed: of every draw.

    Returns:
        (n,) str, `train`, `valid` or `test`; and notes for the user on what was drawn.

    Raises:
        ValueError: no row is left to train on, a fraction or fold out of range, a contig that no row lies on, or a
            table without what `by` needs.
    """
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise ValueError(f"split fractions valid {valid:g} and test {test:g}: each is 0 or more, and both are below 1")
    if by == "contig":
        names, notes = _by_contig(labelled, valid, test, valid_contigs, test_contigs)
    elif by == "fold":
        if not 0 <= fold < folds or folds < 2:
            raise ValueError(f"fold {fold} of {folds}: folds are 2 or more, and are counted from 0 to {folds - 1}")
        rows, starts, _ = _shuffled(labelled, np.arange(len(labelled)), stratified, seed)
        # Groups are dealt to the folds one by one, class after class.
        dealt = np.repeat(np.arange(len(starts)) % folds, np.diff(np.append(starts, len(rows))))
        names = np.full(len(labelled), "train", dtype="<U5")
        names[rows[dealt == fold]] = "test"
        notes = [f"split: fold {fold} of {folds} is test, {_rows(names, 'test')}"]
        _draw(labelled, names, {"valid": valid}, stratified, seed, notes)
    elif by == "random":
        names, notes = np.full(len(labelled), "train", dtype="<U5"), []
        _draw(labelled, names, {"test": test, "valid": valid}, stratified, seed, notes)
    elif by == "column":
        names, notes = labelled.split.copy(), []
        missing = {split: part for split, part in (("test", test), ("valid", valid)) if split not in names}
        names[names == ""] = "train"
        _draw(labelled, names, missing, stratified, seed, notes)
    else:
        raise ValueError(f"split.by is {by!r}; allowed are column, contig, fold and random")
    if "train" not in names:
        raise ValueError(
            f"no row is left to train on: {_rows(names, 'valid')} are valid and {_rows(names, 'test')} test; "
            "name the file or rows to train on as train"
        )
    if labelled.task.kind in ("binary", "multiclass") and len(set(labelled.labels[names == "train"].tolist())) < 2:
        raise ValueError("all train rows have the same class; take other contigs, or split.by=random")
    return names, tuple(notes)


def take_fraction(labelled: Labelled, split: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Return (n,) bool, True for a fraction of the train rows, above 0 and at most 1, and for all rows of other splits.

    The fraction is that of every class, at least one row of each; of one seed, the smaller part lies in the larger.

    Raises:
        ValueError: fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"data_fraction is {fraction:g}; it must be above 0 and at most 1")
    rows = np.flatnonzero(split == "train")
    kept = split != "train"
    keys = rng.uniform(seed, STREAM_FRACTION, rows)
    strata = _strata(labelled, True)[rows]
    for stratum in np.unique(strata):
        here = rows[strata == stratum]
        first = np.argsort(keys[strata == stratum], kind="stable")[: max(round(fraction * len(here)), 1)]
        kept[here[first]] = True
    return kept


def _strata(labelled: Labelled, stratified: bool) -> np.ndarray:
    """(n,) int64: the class of each row, or 0 where rows have none."""
    has_classes = labelled.task.kind in ("binary", "multiclass")
    return labelled.labels if stratified and has_classes else np.zeros(len(labelled), dtype=np.int64)


def _shuffled(labelled: Labelled, rows: np.ndarray, stratified: bool, seed: int):
    """Group some rows by sequence, in an order drawn within each class.

    Returns:
        (m,) rows, those of a group side by side; (g,) where each group begins; (g,) its class, that of its first row.
    """
    groups = sequence_groups([labelled.sequences[row] for row in rows])
    first = np.unique(groups, return_index=True)[1]  # groups are numbered as they appear: this ascends
    strata = _strata(labelled, stratified)[rows[first]]
    place = np.empty(len(first), dtype=np.int64)
    order = np.lexsort((rng.uniform(seed, STREAM_SPLIT, rows[first]), strata))
    place[order] = np.arange(len(first))
    by_place = np.argsort(place[groups], kind="stable")
    starts = np.searchsorted(place[groups][by_place], np.arange(len(first)))
    return rows[by_place], starts, strata[order]


def _draw(labelled: Labelled, names: np.ndarray, parts: dict[str, float], stratified: bool, seed: int, notes) -> None:
    """Turn fractions of the train rows into other splits, in place."""
    parts = {split: part for split, part in parts.items() if part > 0}
    train = np.flatnonzero(names == "train")
    if not parts or not len(train):
        return
    rows, starts, strata = _shuffled(labelled, train, stratified, seed)
    ends = np.append(starts[1:], len(rows))
    for stratum in np.unique(strata):
        groups = np.flatnonzero(strata == stratum)
        begin = int(starts[groups[0]])
        size = int(ends[groups[-1]]) - begin
        drawn = 0.0
        for split, part in parts.items():
            # A group that lies across a boundary goes where its middle is.
            low, high = round(drawn * size), round((drawn + part) * size)
            middle = (starts[groups] + ends[groups]) / 2 - begin
            for group in groups[(low <= middle) & (middle < high)]:
                names[rows[starts[group] : ends[group]]] = split
            drawn += part
    how = "stratified by class, " if stratified and labelled.task.kind in ("binary", "multiclass") else ""
    for split, part in parts.items():
        what = f"{part:.0%}, {how}seed {seed}; copies stay together"
        notes.append(f"split: {_rows(names, split)} of train drawn as {split} ({what})")


def _by_contig(labelled: Labelled, valid: float, test: float, valid_contigs, test_contigs):
    if labelled.intervals is None:
        raise ValueError("split.by is contig, but the table names no intervals: it needs chrom, start and end")
    contigs = np.array([interval.contig for interval in labelled.intervals])
    distinct, counts = np.unique(contigs, return_counts=True)
    size = dict(zip(distinct.tolist(), counts.tolist(), strict=True))
    chosen = {"test": list(test_contigs), "valid": list(valid_contigs)}
    for split, named in chosen.items():
        if unknown := [name for name in named if name not in size]:
            shown = ", ".join(list(size)[:10]) + (", …" if len(size) > 10 else "")
            raise ValueError(f"split.{split}_contigs: no row lies on {unknown[0]!r}; rows lie on {shown}")
    if both := set(test_contigs) & set(valid_contigs):
        raise ValueError(f"contig {min(both)!r} is both in split.valid_contigs and in split.test_contigs")
    for split, part in (("test", test), ("valid", valid)):
        if not chosen[split] and part > 0:
            left = {name: rows for name, rows in size.items() if name not in chosen["test"] + chosen["valid"]}
            chosen[split] = _fill(left, part * len(labelled))
    names = np.full(len(labelled), "train", dtype="<U5")
    notes = []
    for split, named in chosen.items():
        names[np.isin(contigs, named)] = split
        if named:
            notes.append(f"split: {split} is {', '.join(named)}, {_rows(names, split)} of {len(names):,}")
    return names, notes


def _fill(sizes: dict[str, int], num_rows: float) -> list[str]:
    """Choose contigs of about `num_rows` rows in all: the largest that still fits, again and again, or the smallest."""
    chosen = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if sizes[name] <= num_rows:
            chosen.append(name)
            num_rows -= sizes[name]
    return sorted(chosen) or sorted(sizes, key=lambda name: (sizes[name], name))[:1]


def _rows(names: np.ndarray, split: str) -> str:
    return f"{np.count_nonzero(names == split):,} rows"
