"""Scores of every change in a region as a heat map with a sequence logo above each line, for a page or as PNG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from genolm.reports.svg import INK, MINUS, PLUS, QUIET, TONES, WASH, add_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline

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


BASE_COLOURS = {"A": TONES[2], "C": TONES[0], "G": TONES[4], "T": TONES[1]}
MAX_WIDTH = 1188  # SVG units, as are all sizes below
_LEFT, _RIGHT, _LOGO, _GAP, _BELOW, _HEADING = 40, 48, 64, 6, 44, 52


def draw_mutations(region: MutationMap, limit: float, bits: float, heading: str = "") -> "Figure":
    """Draw one region, with a title, colour bar and the name of the score where a heading is given.

    `limit` is the score of full colour, `bits` the top of the logo's axis.
    """
    lines, num_rows = list(region.lines()), region.scores.shape[1]
    longest = max(map(len, lines))
    cell = min(22.0, (MAX_WIDTH - _LEFT - _RIGHT) / longest)
    row = 18 if cell >= 15 else 15
    top, step = _HEADING if heading else 8, _LOGO + _GAP + row * num_rows + _BELOW
    width = max(_LEFT + cell * longest + _RIGHT, 460 if heading else 160)
    figure = new_figure(width, top + step * len(lines) - 8)
    if heading:
        _draw_heading(figure, region.title, heading, limit)
    for number, line in enumerate(lines):
        logo = add_axes(figure, _LEFT, top + step * number, cell * len(line), _LOGO)
        logo.set(xlim=(line.start - 0.5, line.stop - 0.5), ylim=(0, bits), xticks=[])
        logo.set_yticks([0, bits / 2, bits], ["0", "bits", f"{bits:g}"])
        logo.spines["bottom"].set(visible=True, color=QUIET, linewidth=1)
        _draw_logo(logo, region, line, bits)
        heat_map = add_axes(figure, _LEFT, top + step * number + _LOGO + _GAP, cell * len(line), row * num_rows)
        heat_map.set(xlim=(line.start - 0.5, line.stop - 0.5), ylim=(num_rows - 0.5, -0.5))
        heat_map.set_yticks(range(num_rows), list(ROWS[:num_rows]), color=INK, fontsize=12)
        ticks = region.ticks(line)
        heat_map.set_xticks(ticks, [region.position(column) for column in ticks])
        _draw_cells(heat_map, region, line, limit, (cell - 1, row - 1))
    return figure


def cell_tips(region: MutationMap) -> dict[str, list[str]]:
    """Return the tooltips of the cells: gid of a line's cells → column by column."""
    rows = range(region.scores.shape[1])
    return {
        f"cells{line.start}": [region.tip(column, row) for column in line for row in rows] for line in region.lines()
    }


def _draw_logo(axes: "Axes", region: MutationMap, line: range, bits: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    for column in line:
        for base, bottom, height in region.stack(column):
            if height * _LOGO / bits > 0.5:  # lower letters cannot be seen
                place = Affine2D().scale(0.92, height).translate(column - 0.46, bottom)
                letter = place.transform_path(letter_outline(base))
                axes.add_patch(PathPatch(letter, facecolor=BASE_COLOURS[base], linewidth=0, clip_on=False))


def _draw_cells(axes: "Axes", region: MutationMap, line: range, limit: float, size: tuple[float, float]) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D

    num_rows = region.scores.shape[1]
    offsets = [(column, row) for column in line for row in range(num_rows)]
    scores = region.scores[line.start : line.stop].ravel()
    opacity = np.minimum(np.abs(scores) / limit, 1)
    colours = [
        to_rgba(MINUS if score < 0 else PLUS, alpha) if np.isfinite(score) else to_rgba(WASH)
        for score, alpha in zip(scores.tolist(), opacity.round(2).tolist(), strict=True)
    ]
    rectangle = Affine2D().translate(-0.5, -0.5).scale(*size).transform_path(Outline.unit_rectangle())
    assert axes.figure is not None
    cells = PathCollection(
        [rectangle],
        offsets=offsets,
        offset_transform=axes.transData,
        transform=Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans,
        facecolors=colours,
        linewidths=0,
        clip_on=False,
        gid=f"cells{line.start}",
    )
    axes.add_collection(cells, autolim=False)
    for column in line:
        base = region.ref[column]
        if base in BASE_COLOURS:
            axes.text(column, ROWS.index(base), base, ha="center", va="center_baseline", fontsize=10.5, color=QUIET)


def _draw_heading(figure: "Figure", title: str, name: str, limit: float) -> None:
    width, height = figure.get_size_inches() * 72
    figure.text(_LEFT / width, 1 - 16 / height, title, fontsize=14, color=INK, weight="bold")
    figure.text(_LEFT / width, 1 - 32 / height, f"{name}; logo: information in bits", fontsize=9, color=QUIET)
    bar = add_axes(figure, width - _RIGHT - 130, 8, 130, 9)
    for colour, ends in ((MINUS, (-1, 0)), (PLUS, (0, 1))):
        shades = np.linspace(*ends, 60)
        bar.bar(shades, 1, 1 / 59, color=[(colour, abs(shade)) for shade in shades.tolist()], linewidth=0)
    bar.set(xlim=(-1, 1), ylim=(0, 1), yticks=[])
    bar.set_xticks([-1, 0, 1], [f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"], fontsize=9)


@cache
def letter_outline(base: str) -> "Outline":
    """Return the outline of a bold letter, stretched to the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Bbox, BboxTransform

    path = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    return BboxTransform(path.get_extents(), Bbox.unit()).transform_path(path)
