"""A table of regions on the contigs of a store, with set operations; disjoint train, valid and test regions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genolm.genome.interval import Interval, read_intervals
from genolm.genome.store import Store


@dataclass(frozen=True)
class Regions:
    """Regions of contigs, 0-based half-open, sorted by contig and start, never overlapping.

    Attributes:
        contig: (R,) int64, index into `store.contigs`.
        start: (R,) int64.
        end: (R,) int64.
    """

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, int, int]]) -> "Regions":
        """Sort rows (contig, start, end), join those that touch or overlap, and drop empty ones."""
        joined: list[list[int]] = []
        for contig, start, end in sorted(row for row in rows if row[2] > row[1]):
            if joined and joined[-1][0] == contig and start <= joined[-1][2]:
                joined[-1][2] = max(joined[-1][2], end)
            else:
                joined.append([contig, start, end])
        table = np.array(joined, dtype=np.int64).reshape(-1, 3)
        return cls(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())

    @classmethod
    def whole(cls, store: Store, genome: str | None = None) -> "Regions":
        """Return every contig of a store, or of one genome in it, from end to end."""
        contigs = enumerate(store.contigs)
        return cls.from_rows((i, 0, contig.length) for i, contig in contigs if genome in (None, contig.genome))

    @classmethod
    def from_intervals(cls, store: Store, intervals: Iterable[Interval]) -> "Regions":
        """Look up intervals by contig name.

        Raises:
            ValueError: an unknown contig, or an interval that ends beyond its contig.
        """
        rows = []
        for interval in intervals:
            i = store.contig_index(interval.contig)
            if interval.end > store.contigs[i].length:
                raise ValueError(
                    f"interval {interval.contig}:{interval.start}-{interval.end} ends beyond its contig of "
                    f"{store.contigs[i].length} bases; the file may belong to another assembly"
                )
            rows.append((i, interval.start, interval.end))
        return cls.from_rows(rows)

    def __len__(self) -> int:
        return len(self.contig)

    def __iter__(self):
        return zip(self.contig.tolist(), self.start.tolist(), self.end.tolist(), strict=True)

    @property
    def length(self) -> np.ndarray:
        """(R,) int64: bases in each region."""
        return self.end - self.start

    @property
    def num_bases(self) -> int:
        """Bases in all regions."""
        return int(self.length.sum())

    def on_other_strand(self, store: Store) -> "Regions":
        """Return the same bases in the coordinates of the other strand."""
        lengths = store.lengths.tolist()
        return Regions.from_rows((c, lengths[c] - end, lengths[c] - start) for c, start, end in self)

    def union(self, other: "Regions") -> "Regions":
        """Return the bases in either table."""
        return Regions.from_rows([*self, *other])

    def intersect(self, other: "Regions") -> "Regions":
        """Return the bases in both tables."""
        rows, i, j = [], 0, 0
        a, b = list(self), list(other)
        while i < len(a) and j < len(b):
            if a[i][0] == b[j][0]:
                rows.append((a[i][0], max(a[i][1], b[j][1]), min(a[i][2], b[j][2])))
            if (a[i][0], a[i][2]) <= (b[j][0], b[j][2]):
                i += 1
            else:
                j += 1
        return Regions.from_rows(rows)

    def subtract(self, other: "Regions") -> "Regions":
        """Return the bases of this table that are not in `other`."""
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
        return Regions.from_rows(rows)

    def contain(self, contig: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return (N,) bool: whether each position, 0-based on its contig, lies in a region."""
        if not len(self):
            return np.zeros(len(contig), dtype=bool)
        # Contigs are laid out on one axis, far enough apart that no two can meet.
        at = np.searchsorted((self.contig << 40) + self.start, (contig << 40) + position, side="right") - 1
        last = np.maximum(at, 0)
        return (at >= 0) & (self.contig[last] == contig) & (position < self.end[last])

    def head(self, max_bp: int | None) -> "Regions":
        """Return the first bases of every region, the same fraction of each, about `max_bp` in all; all for None."""
        if max_bp is None or self.num_bases <= max_bp:
            return self
        fraction = max_bp / self.num_bases
        return Regions.from_rows((c, s, s + max(1, int((e - s) * fraction))) for c, s, e in self)

    def tile(self, window_bp: int, context_bp: int = 0) -> np.ndarray:
        """Cut regions into evaluation windows whose scored parts cover every base exactly once.

        Args:
            window_bp: the longest window.
            context_bp: bases before the scored part that a window, other than a region's first, shows the model.

        Returns:
            (N, 4) int64: contig, start, end, scored_from, all 0-based; bases [scored_from, end) are scored.
        """
        if not 0 <= context_bp < window_bp:
            raise ValueError(f"context_bp is {context_bp}; it must be at least 0 and below window_bp, {window_bp}")
        step = window_bp - context_bp
        rows = []
        for contig, start, end in self:
            scored = start
            while scored < end:
                stop = min(end, start + window_bp) if scored == start else min(end, scored + step)
                rows.append((contig, max(start, stop - window_bp), stop, scored))
                scored = stop
        return np.array(rows, dtype=np.int64).reshape(-1, 4)


@dataclass(frozen=True)
class SplitRule:
    """What one split takes: any of named contigs, a fraction of the bases, and intervals.

    Attributes:
        contigs: names, or `genome/name` where two genomes share a name.
        fraction: of all bases. Whole contigs, smallest last, while they fit; what is then missing is taken from the
            end of the largest contig that is left, so that a single chromosome can be split too.
        intervals: intervals by contig name, as read from a BED file.
    """

    contigs: Sequence[str] = ()
    fraction: float = 0.0
    intervals: Sequence[Interval] = field(default_factory=tuple)

    @classmethod
    def read(cls, contigs: Sequence[str], fraction: float, regions: str | None) -> "SplitRule":
        """Build a rule whose intervals, if any, are in a BED or GFF file."""
        return cls(tuple(contigs), fraction, tuple(read_intervals(Path(regions))) if regions else ())


def split_genomes(
    store: Store, valid: SplitRule, test: SplitRule, available: Regions | None = None
) -> dict[str, Regions]:
    """Divide the genomes into `train`, `valid` and `test`.

    Named contigs and intervals are taken first, then the fractions, test before valid; train is the rest.

    Args:
        store: the genomes.
        valid: what valid takes.
        test: what test takes.
        available: the regions to divide; None for whole genomes.

    Raises:
        ValueError: valid and test overlap, or a name is unknown, or nothing is left for training.
    """
    available = Regions.whole(store) if available is None else available
    total = available.num_bases
    rules = {"test": test, "valid": valid}
    parts = {}
    for name, rule in rules.items():
        contigs = (store.contig_index(contig) for contig in rule.contigs)
        named = Regions.from_rows((i, 0, store.contigs[i].length) for i in contigs)
        parts[name] = named.union(Regions.from_intervals(store, rule.intervals)).intersect(available)
    for contig, start, end in parts["test"].intersect(parts["valid"]):
        raise ValueError(f"valid and test share {store.contigs[contig].name}:{start}-{end}; a base has one split")
    for name, rule in rules.items():
        if rule.fraction:
            rest = available.subtract(parts["test"].union(parts["valid"]))
            parts[name] = parts[name].union(_take_fraction(rest, round(rule.fraction * total)))
    train = available.subtract(parts["test"].union(parts["valid"]))
    if not train.num_bases:
        raise ValueError("valid and test leave no base to train on; give them fewer contigs or a smaller fraction")
    return {"train": train, "valid": parts["valid"], "test": parts["test"]}


def _take_fraction(available: Regions, num_bases: int) -> Regions:
    """Take whole regions, large to small, while they fit; then the ends of the largest ones left."""
    rows, left, missing = [], [], num_bases
    for contig, start, end in sorted(available, key=lambda row: (row[1] - row[2], row)):
        # A region larger than half of the split would decide alone what the split looks like.
        if end - start <= missing // 2:
            rows.append((contig, start, end))
            missing -= end - start
        else:
            left.append((contig, start, end))
    for contig, start, end in left:
        taken = min(missing, end - start)
        rows.append((contig, end - taken, end))
        missing -= taken
    return Regions.from_rows(rows)


def available_regions(store: Store, include: str | Path | None = None, exclude: str | Path | None = None) -> Regions:
    """Return all bases, or those inside `include`, minus those inside `exclude`, which are BED or GFF files."""
    regions = Regions.whole(store)
    if include is not None:
        regions = regions.intersect(Regions.from_intervals(store, read_intervals(Path(include))))
    if exclude is not None:
        regions = regions.subtract(Regions.from_intervals(store, read_intervals(Path(exclude))))
    return regions
