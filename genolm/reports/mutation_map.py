"""What a heat map of changes and its sequence logo hold, and how both are laid out, whatever draws them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ROWS = "ACGT–"
"""Rows of a heat map from the top: the base put there, and its deletion."""
COLOURS = {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00"}
"""Letters of a logo, of Okabe and Ito's palette."""
MOST = 100
"""Bases in a line of a drawing."""


@dataclass(frozen=True)
class MutationMap:
    """Scores of every change of every base of a region.

    Attributes:
        chrom: name of the contig.
        first: place of the first base, 1-based.
        ref: n letters of the reference, upper case; columns of letters other than A C G T stay empty.
        scores: (n, 4) of A, C, G, T, or (n, 5) with the deletion, less the mean of deletions; NaN where there is none,
            as at the base of REF.
        heights: (n, 4) bits of A, C, G, T in the logo; NaN where there is none.
    """

    chrom: str
    first: int
    ref: str
    scores: np.ndarray
    heights: np.ndarray

    @property
    def title(self) -> str:
        """`chr17:41,196,312–41,196,431`, both ends in it."""
        return f"{self.chrom}:{self.first:,}–{self.first + len(self.ref) - 1:,}"

    def lines(self) -> Iterator[range]:
        """Yield the columns of each line: as few lines as hold them, all but the last equally long."""
        size = len(self.ref)
        each = math.ceil(size / math.ceil(size / MOST))
        if size > MOST:
            each = min(MOST, math.ceil(each / 10) * 10)
        for start in range(0, size, each):
            yield range(start, min(start + each, size))

    def marks(self, line: range) -> list[int]:
        """Return the columns of a line under which their place is written: every tenth, or else the first."""
        return [k for k in line if (self.first + k) % 10 == 0] or [line.start]

    def stack(self, column: int) -> list[tuple[str, float, float]]:
        """Return letter, bottom and height in bits of the letters at a column, the tallest on top."""
        heights = self.heights[column]
        if not np.isfinite(heights).all():
            return []
        found, bottom = [], 0.0
        for base in np.argsort(heights, kind="stable").tolist():
            found.append((ROWS[base], bottom, float(heights[base])))
            bottom += float(heights[base])
        return found

    def extremes(self, number: int) -> tuple[list[str], list[str]]:
        """Return the substitutions of lowest scores below 0, and of highest above 0, as text."""
        known = np.argwhere(np.isfinite(self.scores[:, :4]))
        values = self.scores[known[:, 0], known[:, 1]]
        order = np.argsort(values, kind="stable").tolist()
        low = [self.change(*known[k].tolist()) for k in order[:number] if values[k] < 0]
        high = [self.change(*known[k].tolist()) for k in order[::-1][:number] if values[k] > 0]
        return low, high

    def change(self, column: int, row: int) -> str:
        """Write a change and its score: `41,196,320 C→T −2.31`."""
        name = f"{self.first + column:,} {self.ref[column]}→{ROWS[row]}"
        against = " against the mean deletion" if row == 4 else ""
        return f"{name} {self.scores[column, row]:+.2f}{against}".replace("-", "−")


def limit_of(maps: Sequence[MutationMap]) -> float:
    """Return the score at which colours are full: all but one in a hundred are nearer to 0."""
    values = np.concatenate([np.abs(drawn.scores[np.isfinite(drawn.scores)]) for drawn in maps])
    return float(max(np.quantile(values, 0.99), 1e-3)) if len(values) else 1.0


def bits_of(maps: Sequence[MutationMap]) -> float:
    """Return the top of a logo's axis: the least round number, up to 2 bits, that all letters stay below."""
    sums = np.concatenate([drawn.heights.sum(1) for drawn in maps])
    tallest = float(sums[np.isfinite(sums)].max(initial=0))
    return next(top for top in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0) if top >= min(tallest, 2.0))


def glyph(base: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of a bold letter, stretched to the unit square: (k, 2) points, y upwards, and matplotlib's
    codes (k,).
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    assert path.codes is not None
    points = np.array(path.vertices, dtype=np.float64)
    drawn = path.codes != 79  # what closes an outline names no point
    low, high = points[drawn].min(0), points[drawn].max(0)
    points[drawn] = (points[drawn] - low) / (high - low)
    points[~drawn] = 0
    return points, np.array(path.codes)
