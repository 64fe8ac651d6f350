"""Which letters belong to which split, and where windows lie in them. Splits come first, windows second.

A `Regions` table lists stretches of contigs. `split` divides a store into train, valid and test regions; whatever
overlaps valid or test is never in train. `tile` cuts regions into evaluation windows whose scored parts cover every
letter exactly once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genolm.genome.interval import Interval, read_intervals
from genolm.genome.store import Store


class SplitError(ValueError):
    """A split that names what the genomes do not have, or leaves nothing to train on."""


@dataclass(frozen=True)
class Regions:
    """Stretches of contigs, 0-based half-open, sorted by contig and start, never overlapping.

    Attributes:
        contig: (R,) int64, index into `store.contigs`.
        start: (R,) int64.
        end: (R,) int64.
    """

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int]]) -> "Regions":
        """Sort rows (contig, start, end), join those that touch or overlap, and drop empty ones."""
        joined: list[list[int]] = []
        for contig, start, end in sorted(row for row in rows if row[2] > row[1]):
            if joined and joined[-1][0] == contig and start <= joined[-1][2]:
                joined[-1][2] = max(joined[-1][2], end)
            else:
                joined.append([contig, start, end])
        table = np.array(joined, dtype=np.int64).reshape(-1, 3)
        return cls(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())

    def __len__(self) -> int:
        return len(self.contig)

    def __iter__(self):
        return zip(self.contig.tolist(), self.start.tolist(), self.end.tolist(), strict=True)

    def on_other_strand(self, store: Store) -> "Regions":
        """Return the same bases in the coordinates of the other strand."""
        return Regions.of((c, int(store.lengths[c]) - end, int(store.lengths[c]) - start) for c, start, end in self)

    @property
    def length(self) -> np.ndarray:
        """(R,) int64: bases in each region."""
        return self.end - self.start

    @property
    def num_bases(self) -> int:
        """Bases in all regions."""
        return int(self.length.sum())

    def intersect(self, other: "Regions") -> "Regions":
        """Return the parts in both tables."""
        rows, i, j = [], 0, 0
        a, b = list(self), list(other)
        while i < len(a) and j < len(b):
            if a[i][0] == b[j][0]:
                rows.append((a[i][0], max(a[i][1], b[j][1]), min(a[i][2], b[j][2])))
            if (a[i][0], a[i][2]) <= (b[j][0], b[j][2]):
                i += 1
            else:
                j += 1
        return Regions.of(rows)

    def subtract(self, other: "Regions") -> "Regions":
        """Return the parts of this table that are not in `other`."""
        rows, j = [], 0
        b = list(other)
        for contig, start, end in self:
            while j < len(b) and (b[j][0], b[j][2]) <= (contig, start):
                j += 1
            at, i = start, j
            while i < len(b) and b[i][0] == contig and b[i][1] < end:
                rows.append((contig, at, b[i][1]))
                at = max(at, b[i][2])
                i += 1
            rows.append((contig, at, end))
        return Regions.of(rows)


@dataclass(frozen=True)
class Split:
    """What one split holds: any of named contigs, a fraction, and intervals.

    Attributes:
        contigs: names, or `genome/name` where two genomes share a name.
        fraction: of all bases. Whole contigs, smallest last, while they fit; what is then missing is taken from the
            end of the largest contig that is left, so that a single chromosome can be split too.
        intervals: stretches named by contig, as read from a BED.
    """

    contigs: Sequence[str] = ()
    fraction: float = 0.0
    intervals: Sequence[Interval] = field(default_factory=tuple)

    @classmethod
    def read(cls, contigs: Sequence[str], fraction: float, regions: str | None) -> "Split":
        """Build a split whose intervals, if any, are in a BED or GFF file."""
        return cls(tuple(contigs), fraction, tuple(read_intervals(Path(regions))) if regions else ())


def whole(store: Store) -> Regions:
    """Return every contig, from end to end."""
    return Regions.of((i, 0, contig.length) for i, contig in enumerate(store.contigs))


def of_genome(store: Store, genome: str) -> Regions:
    """Return every contig of one genome."""
    return Regions.of((i, 0, contig.length) for i, contig in enumerate(store.contigs) if contig.genome == genome)


def contig_index(store: Store, name: str) -> int:
    """Find a contig by `name` or `genome/name`.

    Raises:
        SplitError: no such contig, or several; says which there are.
    """
    if not hasattr(store, "_by_name"):
        table: dict[str, list[int]] = {}
        for i, contig in enumerate(store.contigs):
            table.setdefault(contig.name, []).append(i)
            table.setdefault(f"{contig.genome}/{contig.name}", []).append(i)
        store._by_name = table  # pyright: ignore[reportAttributeAccessIssue]
    found = store._by_name.get(name, [])  # pyright: ignore[reportAttributeAccessIssue]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"{store.contigs[i].genome}/{name}" for i in found[:4])
        raise SplitError(f"contig {name!r} is in {len(found)} genomes; write one of {some}")
    some = ", ".join(contig.name for contig in store.contigs[:8])
    more = f", … ({len(store.contigs)} in all)" if len(store.contigs) > 8 else ""
    raise SplitError(f"no contig is named {name!r}; the genomes have {some}{more}. Names end at the first space.")


def regions_of(store: Store, intervals: Iterable[Interval]) -> Regions:
    """Turn intervals named by contig into regions, checked against the contigs' lengths."""
    rows = []
    for interval in intervals:
        i = contig_index(store, interval.contig)
        if interval.end > store.contigs[i].length:
            raise SplitError(
                f"interval {interval.contig}:{interval.start}-{interval.end} ends beyond its contig of "
                f"{store.contigs[i].length} bases; the file may belong to another assembly"
            )
        rows.append((i, interval.start, interval.end))
    return Regions.of(rows)


def _take_fraction(available: Regions, num_bases: int) -> Regions:
    """Take whole regions, large to small, while they fit; then the ends of the largest ones left."""
    rows, left, missing = [], [], num_bases
    for contig, start, end in sorted(available, key=lambda row: (row[1] - row[2], row)):
        # A region larger than half of what is asked for would decide alone what the split looks like.
        if end - start <= missing // 2:
            rows.append((contig, start, end))
            missing -= end - start
        else:
            left.append((contig, start, end))
    for contig, start, end in left:
        taken = min(missing, end - start)
        rows.append((contig, end - taken, end))
        missing -= taken
    return Regions.of(rows)


def split(store: Store, valid: Split, test: Split, available: Regions | None = None) -> dict[str, Regions]:
    """Divide the genomes into `train`, `valid` and `test`, before any window is cut.

    Named contigs and intervals are taken first, then the fractions, test before valid; train is the rest.

    Raises:
        SplitError: valid and test overlap, or a name is unknown, or nothing is left for training.
    """
    available = whole(store) if available is None else available
    total = available.num_bases
    taken = {}
    for name, rule in (("test", test), ("valid", valid)):
        named = Regions.of((i, 0, store.contigs[i].length) for i in (contig_index(store, c) for c in rule.contigs))
        taken[name] = Regions.of([*named, *regions_of(store, rule.intervals)]).intersect(available)
    shared = taken["test"].intersect(taken["valid"])
    if len(shared):
        contig, start, end = next(iter(shared))
        raise SplitError(f"valid and test share {store.contigs[contig].name}:{start}-{end}; a base has one split")
    for name, rule in (("test", test), ("valid", valid)):
        if rule.fraction:
            rest = available.subtract(Regions.of([*taken["test"], *taken["valid"]]))
            fraction = _take_fraction(rest, round(rule.fraction * total))
            taken[name] = Regions.of([*taken[name], *fraction])
    train = available.subtract(Regions.of([*taken["test"], *taken["valid"]]))
    if not train.num_bases:
        raise SplitError("valid and test leave no base to train on; give them fewer contigs or a smaller fraction")
    return {"train": train, "valid": taken["valid"], "test": taken["test"]}


def available(store: Store, include: str | Path | None = None, exclude: str | Path | None = None) -> Regions:
    """Return every base, or those inside the intervals of `include`, less those inside `exclude` (BED or GFF files)."""
    regions = whole(store)
    if include is not None:
        regions = regions.intersect(regions_of(store, read_intervals(Path(include))))
    if exclude is not None:
        regions = regions.subtract(regions_of(store, read_intervals(Path(exclude))))
    return regions


def inside(regions: Regions, contig: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether each position, 0-based on its contig, lies in a region."""
    if not len(regions):
        return np.zeros(len(contig), dtype=bool)
    # Contigs are laid out on one axis, far enough apart that no two can meet.
    at = np.searchsorted((regions.contig << 40) + regions.start, (contig << 40) + position, side="right") - 1
    found = np.maximum(at, 0)
    return (at >= 0) & (regions.contig[found] == contig) & (position < regions.end[found])


def head(regions: Regions, max_bp: int | None) -> Regions:
    """Return the first bases of every region, in equal shares, about `max_bp` in all; None returns them whole."""
    if max_bp is None or regions.num_bases <= max_bp:
        return regions
    share = max_bp / regions.num_bases
    return Regions.of((c, s, s + max(1, int((e - s) * share))) for c, s, e in regions)


def tile(regions: Regions, window_bp: int, context_bp: int = 0) -> np.ndarray:
    """Cut regions into windows whose scored parts cover every base exactly once.

    Args:
        regions: what to cover.
        window_bp: the longest window.
        context_bp: bases before the scored part that a window, other than a region's first, shows the model.

    Returns:
        (N, 4) int64: contig, start, end, scored_from, all 0-based; bases [scored_from, end) are scored.
    """
    if not 0 <= context_bp < window_bp:
        raise ValueError(f"context_bp is {context_bp}; it must be at least 0 and below window_bp, {window_bp}")
    step = window_bp - context_bp
    rows = []
    for contig, start, end in regions:
        scored = start
        while scored < end:
            stop = min(end, start + window_bp) if scored == start else min(end, scored + step)
            rows.append((contig, max(start, stop - window_bp), stop, scored))
            scored = stop
    return np.array(rows, dtype=np.int64).reshape(-1, 4)
