"""Charts as inline SVG: crisp at any size, small, coloured by the page's CSS, so that light, dark and print all work.

A chart is drawn 400 units wide, about what a phone shows, and never scaled far up: its text keeps its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from genolm.reports.drawing import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    diagonal_ends,
    padded,
    shorten,
    svg,
    value_range,
    words,
    x_axis,
    y_axis,
)

_LETTER = 6.4  # mean width of a letter of 12 px
_KEY_ROWS = 8


@dataclass(frozen=True)
class Line:
    """One line, or points, of a chart.

    Attributes:
        tone: CSS class that colours it.
        x: shape (n,).
        y: shape (n,), points that are NaN are left out.
        name: in the key; "" for none.
        note: after the name, such as the area under the curve.
        faint: drawn thin and pale, behind the others.
        marks: a dot at each point.
        low: shape (n,), lower ends of intervals at each point.
        high: shape (n,), upper ends.
        tips: what a reader sees who rests the pointer on a dot.
    """

    tone: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    name: str = ""
    note: str = ""
    faint: bool = False
    marks: bool = False
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    tips: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """One row of a chart of intervals."""

    name: str
    tone: str
    value: float
    low: float
    high: float
    text: str


def interval_chart(rows: Sequence[Row], x_label: str, label: str, *, zero: bool = False) -> str:
    """Draw a dot and its interval for each row, its name to the left and its value to the right.

    Args:
        rows: from top to bottom; an interval or value that is NaN is not drawn.
        x_label: below the axis.
        label: what the chart shows, for readers who hear it.
        zero: whether zero is drawn as a line, as for differences.
    """
    ends = [v for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)] + ([0.0] if zero else [])
    low, high = padded(min(ends, default=0), max(ends, default=1), 0.05)
    longest = max(len(shorten(row.name, 20)) for row in rows)
    # Few rows stand apart, so that the chart is about as tall as its neighbours; many stand close.
    step = min(max(270 / len(rows), 26), 44)
    height = TOP + step * len(rows) + BOTTOM
    axes = Axes(low, high, 0, 1, height, left=max(longest * _LETTER + 14, 40), right=52)
    parts = x_axis(axes, x_label, grid=True)
    if zero:
        parts.append(
            f'<line class="zero" x1="{axes.x(0):.1f}" x2="{axes.x(0):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        )
    for place, row in enumerate(rows):
        y = TOP + step * (place + 0.5)
        parts.append(f'<g class="{row.tone}"><title>{escape(row.name)}: {escape(row.text)}</title>')
        parts.append(words(axes.left - 10, y + 4, shorten(row.name, 20), "end"))
        if math.isfinite(row.low) and math.isfinite(row.high):
            parts.append(
                f'<line class="bar" x1="{axes.x(row.low):.1f}" x2="{axes.x(row.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        if math.isfinite(row.value):
            parts.append(f'<circle class="dot" cx="{axes.x(row.value):.1f}" cy="{y}" r="5"/>')
        parts.append(words(WIDTH - 2, y + 4, row.text, "end", "num") + "</g>")
    return svg(height, label, parts)


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    label: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_x: bool = False,
    diagonal: bool = False,
    height: float = 340,
) -> str:
    """Draw lines with a key in the emptiest corner.

    Args:
        lines: drawn in this order, faint ones first.
        x_label: below the axis.
        y_label: above the axis.
        label: what the chart shows, for readers who hear it.
        x_range: of the axis; from the points where None.
        y_range: likewise.
        log_x: whether x is spaced by its logarithm.
        diagonal: whether y = x is drawn.
        height: of the drawing, in units of which it is 400 wide.
    """
    x_low, x_high = x_range or value_range([line.x for line in lines], 0)
    y_low, y_high = y_range or value_range(
        [v for line in lines for v in (line.y, line.low, line.high) if v is not None], 0.06
    )
    if log_x:
        x_low, x_high = x_low / 1.15, x_high * 1.15
    axes = Axes(x_low, x_high, y_low, y_high, height + 14, log_x=log_x)
    parts = [words(0, 11, y_label, "start", "axis"), '<g transform="translate(0 14)">']
    axes = Axes(x_low, x_high, y_low, y_high, height, log_x=log_x)
    marks = sorted({x for line in lines for x in line.x}) if log_x else None
    parts += x_axis(axes, x_label, marks=marks) + y_axis(axes)
    if diagonal:
        ends = diagonal_ends(axes, max(x_low, y_low), min(x_high, y_high))
        parts.append(f'<line class="diagonal" {ends}/>')
    places = []
    for line in sorted(lines, key=lambda line: not line.faint):
        drawn, points = _line(axes, line)
        parts.append(drawn)
        places += points
    parts += _key(axes, [line for line in lines if line.name], places)
    return svg(height + 14, label, [*parts, "</g>"])


def scatter(x: np.ndarray, y: np.ndarray, cells: Sequence[tuple[float, float, int]], x_label: str, y_label: str,
            label: str, low: float, high: float, num_cells: int = 40) -> str:  # fmt: skip
    """Draw predicted against true values, both axes low … high: points, or cells shaded by how many they hold."""
    axes = Axes(low, high, low, high, 340)
    parts = [words(0, 11, y_label, "start", "axis"), '<g transform="translate(0 14)">']
    parts += x_axis(axes, x_label) + y_axis(axes)
    parts.append(f'<line class="diagonal" {diagonal_ends(axes, low, high)}/>')
    if cells:
        most = max(count for _, _, count in cells)
        wide, tall = ((axes.x(high) - axes.x(low)) / num_cells, (axes.y(low) - axes.y(high)) / num_cells)
        for a, b, count in cells:
            shade = 0.12 + 0.88 * math.log1p(count) / math.log1p(most)
            at = f'x="{axes.x(a) - wide / 2:.1f}" y="{axes.y(b) - tall / 2:.1f}" width="{wide:.2f}" height="{tall:.2f}"'
            parts.append(f'<rect class="cell" {at} fill-opacity="{shade:.2f}"/>')
    else:
        parts += [
            f'<circle class="point" cx="{axes.x(a):.1f}" cy="{axes.y(b):.1f}" r="2.2"/>'
            for a, b in zip(x, y, strict=True)
        ]
    return svg(354, label, [*parts, "</g>"])


def count_strips(names: Sequence[tuple[str, str, np.ndarray]], label: str) -> str:
    """Draw rows of bars, aligned with a chart over 0 … 1 above: (name, tone, counts (bins,)) each."""
    axes, step, parts = Axes(0, 1, 0, 1, 0), 40, []
    for place, (name, tone, count) in enumerate(names):
        base, wide = step * (place + 1) - 2, (WIDTH - LEFT - RIGHT) / len(count)
        parts.append(
            f'<g class="{tone}"><line class="gridline" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
        )
        for k, value in enumerate(count):
            tall = (step - 20) * value / max(count.max(), 1)
            tip = f"{escape(name)}: {int(value):,} between {k / len(count):.1f} and {(k + 1) / len(count):.1f}"
            at = (
                f'x="{axes.x(k / len(count)) + 1:.1f}" y="{base - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"'
            )
            parts.append(f'<rect class="count" {at}><title>{tip}</title></rect>')
        parts.append(
            words(LEFT, base - step + 15, f"{shorten(name, 24)}, {int(count.sum()):,} in all", "start", "small")
            + "</g>"
        )
    return svg(step * len(names) + 4, label, parts)


def _line(axes: Axes, line: Line) -> tuple[str, list[tuple[float, float]]]:
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y)).tolist()
    # What leaves the frame, such as the first steep fall of a loss, is drawn along its edge.
    points = [(axes.x(x[k]), min(max(axes.y(y[k]), TOP), axes.height - BOTTOM)) for k in kept]
    parts = [f'<g class="{line.tone}{" faint" if line.faint else ""}">']
    if len(points) > 1:
        parts.append(f'<path class="line" d="M{" L".join(f"{a:.1f} {b:.1f}" for a, b in points)}"/>')
    if line.low is not None and line.high is not None:
        for k, (a, _) in zip(kept, points, strict=True):
            low, high = float(line.low[k]), float(line.high[k])
            if math.isfinite(low) and math.isfinite(high):
                ends = f'y1="{axes.y(low):.1f}" y2="{axes.y(high):.1f}"'
                parts.append(f'<line class="bar" x1="{a:.1f}" x2="{a:.1f}" {ends}/>')
    if line.marks or len(points) == 1:
        for k, (a, b) in zip(kept, points, strict=True):
            tip = f"<title>{escape(line.tips[k])}</title>" if len(line.tips) else ""
            parts.append(f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3.5">{tip}</circle>')
    return "".join([*parts, "</g>"]), points


def _key(axes: Axes, lines: Sequence[Line], places: Sequence[tuple[float, float]]) -> list[str]:
    """Write names in the corner through which the fewest points pass."""
    if not lines:
        return []
    shown = lines[:_KEY_ROWS]
    names = [shorten(line.name, 20) for line in shown]
    wide = max(len(name) + len(line.note) + 2 for name, line in zip(names, shown, strict=True)) * _LETTER + 24
    tall = 17 * len(shown)
    corners = []
    for x in (WIDTH - RIGHT - wide, LEFT + 8):
        for y in (axes.height - BOTTOM - tall - 8, TOP + 2):
            inside = sum(x - 4 < a < x + wide + 4 and y - 4 < b < y + tall + 4 for a, b in places)
            corners.append((inside, len(corners), x, y))
    _, _, x, y = min(corners)
    parts = [f'<rect class="under" x="{x - 4:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall + 4}" rx="3"/>']
    for place, (name, line) in enumerate(zip(names, shown, strict=True)):
        at = y + 17 * place + 10
        parts.append(f'<g class="{line.tone}"><path class="line" d="M{x:.1f} {at:.1f} h14"/>')
        note = f'<tspan class="note"> {escape(line.note)}</tspan>' if line.note else ""
        parts.append(f'<text x="{x + 20:.1f}" y="{at + 4:.1f}" class="small">{escape(name)}{note}</text></g>')
    return parts
