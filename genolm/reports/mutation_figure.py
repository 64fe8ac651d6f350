"""Heat map of changes with a sequence logo above each line, as PNG."""

from pathlib import Path

import numpy as np

from genolm.reports.mutation_map import COLOURS, ROWS, MutationMap, bits_of, glyph, limit_of

_MINUS, _PLUS, _EMPTY, _QUIET, _INK = "#b2182b", "#2166ac", "#eef0f2", "#5b6570", "#1b1f24"
# Inches.
_CELL, _TALL, _LOGO, _UNDER, _HEAD, _LEFT, _RIGHT = 0.135, 0.165, 0.62, 0.42, 0.62, 0.62, 0.3
_LARGEST = 60_000
"""Pixels; matplotlib draws no more than 65,535."""


def mutation_figure(
    drawn: MutationMap, name: str, out_png: str | Path, limit: float | None = None, bits: float | None = None
) -> None:
    """Draw one region.

    Args:
        drawn: the region.
        name: of the score, such as `masked LLR, nats`.
        out_png: file to write.
        limit: score at which colours are full; of this region where None.
        bits: top of the logo's axis, likewise.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    limit, bits = limit or limit_of([drawn]), bits or bits_of([drawn])
    colours = LinearSegmentedColormap.from_list("changes", [_MINUS, "#ffffff", _PLUS]).with_extremes(bad=_EMPTY)
    outlines = {base: glyph(base) for base in COLOURS}
    lines, num_rows = list(drawn.lines()), drawn.scores.shape[1]
    longest = max(map(len, lines))
    cell = min(2 * _CELL, _CELL * 100 / longest)
    wide = max(_LEFT + cell * longest + _RIGHT, 6.4)
    step = _LOGO + 0.05 + _TALL * num_rows + _UNDER
    tall = _HEAD + step * len(lines)
    figure = Figure(figsize=(wide, tall), dpi=min(150, _LARGEST / tall))
    FigureCanvasAgg(figure)

    def place(left: float, top: float, width: float, height: float):
        axes = figure.add_axes((left / wide, 1 - (top + height) / tall, width / wide, height / tall))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=7, labelcolor=_QUIET, pad=2)
        return axes

    def write(left: float, top: float, text: str, size: float, colour: str = _INK, **options):
        figure.text(left / wide, 1 - top / tall, text, fontsize=size, color=colour, **options)

    write(_LEFT, 0.24, drawn.title, 10, weight="bold")
    write(_LEFT, 0.42, f"{name}; letters as tall as their information, bits", 7, _QUIET)
    bar = place(wide - _RIGHT - 1.3, 0.14, 1.3, 0.09)
    bar.imshow(np.linspace(-limit, limit, 201)[None], cmap=colours, aspect="auto", extent=(-limit, limit, 0, 1))
    bar.set_xticks([-limit, 0, limit], [f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"])
    bar.set_yticks([])
    for number, line in enumerate(lines):
        top, size = _HEAD + step * number, cell * len(line)
        logo = place(_LEFT, top, size, _LOGO)
        logo.set(xlim=(line.start - 0.5, line.stop - 0.5), ylim=(0, bits), xticks=[])
        logo.set_yticks([0, bits], ["0", f"{bits:g}"])
        logo.axhline(0, color=_QUIET, linewidth=0.8)
        for column in line:
            for base, bottom, height in drawn.stack(column):
                points, codes = outlines[base]
                outline = Outline(points * (0.9, height) + (column - 0.45, bottom), codes)
                logo.add_patch(PathPatch(outline, facecolor=COLOURS[base], linewidth=0))
        cells = place(_LEFT, top + _LOGO + 0.05, size, _TALL * num_rows)
        extent = (line.start - 0.5, line.stop - 0.5, num_rows - 0.5, -0.5)
        values = np.ma.masked_invalid(drawn.scores[line.start : line.stop].T)
        cells.imshow(
            values, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", extent=extent, interpolation="nearest"
        )
        # White lines between cells.
        cells.vlines(np.arange(line.start, line.stop + 1) - 0.5, -0.5, num_rows - 0.5, color="white", linewidth=0.6)
        cells.hlines(np.arange(num_rows + 1) - 0.5, line.start - 0.5, line.stop - 0.5, color="white", linewidth=0.6)
        cells.set(xlim=extent[:2], ylim=extent[2:])
        cells.set_yticks(range(num_rows), list(ROWS[:num_rows]), color=_INK)
        marks = drawn.marks(line)
        cells.set_xticks(marks, [f"{drawn.first + column:,}" for column in marks])
        for column in line:
            if drawn.ref[column] in COLOURS:
                row = ROWS.index(drawn.ref[column])
                cells.text(column, row, drawn.ref[column], ha="center", va="center_baseline", fontsize=6.5, color=_INK)
    figure.savefig(out_png)
