"""Scores of every change in a region and the sequence logo they imply, laid out in lines."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ROWS = "ACGT–"
"""Rows of the heat map from the top: the base put in place of the reference, and its deletion."""
MAX_LINE = 100
"""Bases in a line of a drawing."""


@dataclass(frozen=True)
class MutationMap:
    """Scores of every change of every base of a region.

    Attributes:
        chrom: name of the contig.
        start: position of the first base, 0-based.
        ref: n bases of the reference, upper case; columns of bases other than A C G T stay empty.
        scores: (n, 4) of A, C, G, T, or (n, 5) with the deletion minus the mean of deletions; NaN where not scored, as
            at the reference base.
        heights: (n, 4) bits of A, C, G, T in the logo; NaN where there are none.
    """

    chrom: str
    start: int
    ref: str
    scores: np.ndarray
    heights: np.ndarray

    @property
    def title(self) -> str:
        """The region as `chr17:41,196,312–41,196,431`, 1-based with both ends."""
        return f"{self.chrom}:{self.position(0)}–{self.position(len(self.ref) - 1)}"

    def position(self, column: int) -> str:
        """Return the 1-based position of a column as text."""
        return f"{self.start + column + 1:,}"

    def lines(self) -> Iterator[range]:
        """Yield the columns of each line: as few lines as hold them, all but the last equally long."""
        size = len(self.ref)
        length = math.ceil(size / math.ceil(size / MAX_LINE))
        if size > MAX_LINE:
            length = min(MAX_LINE, math.ceil(length / 10) * 10)
        for first in range(0, size, length):
            yield range(first, min(first + length, size))

    def ticks(self, line: range) -> list[int]:
        """Return the columns whose position is written: every tenth, or else the first."""
        return [column for column in line if (self.start + column + 1) % 10 == 0] or [line.start]

    def stack(self, column: int) -> list[tuple[str, float, float]]:
        """Return base, bottom and height in bits of a column's logo, the tallest on top."""
        heights = self.heights[column]
        if not np.isfinite(heights).all():
            return []
        letters, bottom = [], 0.0
        for base in np.argsort(heights, kind="stable").tolist():
            letters.append((ROWS[base], bottom, float(heights[base])))
            bottom += float(heights[base])
        return letters

    def extremes(self, number: int) -> tuple[list[str], list[str]]:
        """Return the substitutions of lowest scores below 0, and of highest above 0, as text."""
        cells = np.argwhere(np.isfinite(self.scores[:, :4]))
        values = self.scores[cells[:, 0], cells[:, 1]]
        order = np.argsort(values, kind="stable").tolist()
        low = [self.change(*cells[k].tolist()) for k in order[:number] if values[k] < 0]
        high = [self.change(*cells[k].tolist()) for k in order[::-1][:number] if values[k] > 0]
        return low, high

    def change(self, column: int, row: int) -> str:
        """Format a change and its score: `41,196,320 C→T −2.31`."""
        name = f"{self.position(column)} {self.ref[column]}→{ROWS[row]}"
        against = " against the mean deletion" if row == 4 else ""
        return f"{name} {self.scores[column, row]:+.2f}{against}".replace("-", "−")

    def tip(self, column: int, row: int) -> str:
        """Describe a cell of the heat map."""
        if np.isfinite(self.scores[column, row]):
            return f"{self.chrom}:{self.change(column, row)}"
        base = self.ref[column]
        return f"{self.chrom}:{self.position(column)} {base}, {'the reference' if base == ROWS[row] else 'not scored'}"


def limit_of(maps: Sequence[MutationMap]) -> float:
    """Return the score of full colour: all but one in a hundred are nearer to 0."""
    values = np.concatenate([np.abs(region.scores[np.isfinite(region.scores)]) for region in maps])
    return float(max(np.quantile(values, 0.99), 1e-3)) if len(values) else 1.0


def bits_of(maps: Sequence[MutationMap]) -> float:
    """Return the top of the logos' axis: the least round number, up to 2 bits, above all letters."""
    sums = np.concatenate([region.heights.sum(1) for region in maps])
    tallest = float(sums[np.isfinite(sums)].max(initial=0))
    return next(top for top in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0) if top >= min(tallest, 2.0))
