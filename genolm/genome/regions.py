"""A table of regions on the contigs of a store, with set operations."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from genolm.genome.interval import Interval
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
