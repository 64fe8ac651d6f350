"""Charts as inline SVG: crisp at any size, small, coloured by the page's CSS, so that light, dark and print all work.

A chart is drawn 400 units wide, about what a phone shows, and never scaled far up: its text keeps its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 12, 44
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


@dataclass(frozen=True)
class Axes:
    """Where values lie on a drawing of a given height."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: float
    left: float = _LEFT
    right: float = _RIGHT
    log_x: bool = False

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x_low, self.x_high
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (value - low) / (high - low) * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the vertical place of a value, from the top."""
        return (
            self.height - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (self.height - _BOTTOM - _TOP)
        )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about so many round numbers within low … high, steps of 1, 2 or 5."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    start = math.ceil(low / step - 1e-9)
    return [k * step for k in range(start, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float, marks: Sequence[float]) -> str:
    """Write one of the marks of an axis, with as many digits as tell them apart."""
    step = min((b - a for a, b in zip(marks, marks[1:], strict=False)), default=1.0)
    if max(map(abs, marks)) >= 10_000:
        return f"{value:.3g}".replace("-", "−")
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{0 if abs(value) < step / 2 else value:.{digits}f}".replace("-", "−")


def interval_chart(rows: Sequence[Row], x_label: str, label: str, *, zero: bool = False) -> str:
    """Draw a dot and its interval for each row, its name to the left and its value to the right.

    Args:
        rows: from top to bottom; an interval or value that is NaN is not drawn.
        x_label: below the axis.
        label: what the chart shows, for readers who hear it.
        zero: whether zero is drawn as a line, as for differences.
    """
    ends = [v for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)] + ([0.0] if zero else [])
    low, high = _padded(min(ends, default=0), max(ends, default=1), 0.05)
    longest = max(len(_cut(row.name, 20)) for row in rows)
    step = 30
    height = _TOP + step * len(rows) + _BOTTOM
    axes = Axes(low, high, 0, 1, height, left=max(longest * _LETTER + 14, 40), right=52)
    parts = _x_axis(axes, x_label, grid=True)
    if zero:
        parts.append(
            f'<line class="zero" x1="{axes.x(0):.1f}" x2="{axes.x(0):.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
        )
    for place, row in enumerate(rows):
        y = _TOP + step * (place + 0.5)
        parts.append(f'<g class="{row.tone}"><title>{escape(row.name)}: {escape(row.text)}</title>')
        parts.append(_text(axes.left - 10, y + 4, _cut(row.name, 20), "end"))
        if math.isfinite(row.low) and math.isfinite(row.high):
            parts.append(
                f'<line class="bar" x1="{axes.x(row.low):.1f}" x2="{axes.x(row.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        if math.isfinite(row.value):
            parts.append(f'<circle class="dot" cx="{axes.x(row.value):.1f}" cy="{y}" r="5"/>')
        parts.append(_text(WIDTH - 2, y + 4, row.text, "end", "num") + "</g>")
    return _svg(height, label, parts)


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
    x_low, x_high = x_range or _range([line.x for line in lines], 0)
    y_low, y_high = y_range or _range(
        [v for line in lines for v in (line.y, line.low, line.high) if v is not None], 0.06
    )
    if log_x:
        x_low, x_high = x_low / 1.15, x_high * 1.15
    axes = Axes(x_low, x_high, y_low, y_high, height + 14, log_x=log_x)
    parts = [_text(0, 11, y_label, "start", "axis"), '<g transform="translate(0 14)">']
    axes = Axes(x_low, x_high, y_low, y_high, height, log_x=log_x)
    marks = sorted({x for line in lines for x in line.x}) if log_x else None
    parts += _x_axis(axes, x_label, marks=marks) + _y_axis(axes)
    if diagonal:
        a, b = max(x_low, y_low), min(x_high, y_high)
        ends = f'x1="{axes.x(a):.1f}" y1="{axes.y(a):.1f}" x2="{axes.x(b):.1f}" y2="{axes.y(b):.1f}"'
        parts.append(f'<line class="diagonal" {ends}/>')
    places = []
    for line in sorted(lines, key=lambda line: not line.faint):
        drawn, points = _line(axes, line)
        parts.append(drawn)
        places += points
    parts += _key(axes, [line for line in lines if line.name], places)
    return _svg(height + 14, label, [*parts, "</g>"])


def scatter(x: np.ndarray, y: np.ndarray, cells: Sequence[tuple[float, float, int]], x_label: str, y_label: str,
            label: str, low: float, high: float, num_cells: int = 40) -> str:  # fmt: skip
    """Draw predicted against true values, both axes low … high: single points, or cells shaded by how many they hold."""
    axes = Axes(low, high, low, high, 340)
    parts = [_text(0, 11, y_label, "start", "axis"), '<g transform="translate(0 14)">']
    parts += _x_axis(axes, x_label) + _y_axis(axes)
    parts.append(
        f'<line class="diagonal" x1="{axes.x(low):.1f}" y1="{axes.y(low):.1f}" x2="{axes.x(high):.1f}" y2="{axes.y(high):.1f}"/>'
    )
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
    return _svg(354, label, [*parts, "</g>"])


def count_strips(names: Sequence[tuple[str, str, np.ndarray]], label: str) -> str:
    """Draw rows of bars, aligned with a chart over 0 … 1 above: (name, tone, counts (bins,)) each."""
    axes, step, parts = Axes(0, 1, 0, 1, 0), 34, []
    for place, (name, tone, count) in enumerate(names):
        base, wide = step * (place + 1) - 2, (WIDTH - _LEFT - _RIGHT) / len(count)
        parts.append(
            f'<g class="{tone}"><line class="gridline" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
        )
        for k, value in enumerate(count):
            tall = (step - 16) * value / max(count.max(), 1)
            tip = f"{escape(name)}: {int(value):,} between {k / len(count):.1f} and {(k + 1) / len(count):.1f}"
            at = (
                f'x="{axes.x(k / len(count)) + 1:.1f}" y="{base - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"'
            )
            parts.append(f'<rect class="count" {at}><title>{tip}</title></rect>')
        parts.append(
            _text(_LEFT, base - step + 14, f"{_cut(name, 24)}, {int(count.sum()):,} in all", "start", "small") + "</g>"
        )
    return _svg(step * len(names) + 4, label, parts)


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    name = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = 0.05 * max(abs(high), 0.1)
        return low - pad, high + pad
    return low - share * (high - low), high + share * (high - low)


def _range(values: Sequence[Sequence[float] | np.ndarray], share: float) -> tuple[float, float]:
    every = np.concatenate([np.asarray(part, dtype=np.float64) for part in values] or [np.empty(0)])
    every = every[np.isfinite(every)]
    return _padded(float(every.min()), float(every.max()), share) if len(every) else (0.0, 1.0)


def _x_axis(axes: Axes, label: str, marks: Sequence[float] | None = None, grid: bool = False) -> list[str]:
    bottom = axes.height - _BOTTOM
    parts = [f'<line class="axis" x1="{axes.left:.1f}" x2="{WIDTH - axes.right}" y1="{bottom}" y2="{bottom}"/>']
    at = marks or ticks(axes.x_low, axes.x_high, 4)
    for mark in at:
        x = axes.x(mark)
        if grid:
            parts.append(f'<line class="gridline" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        text = f"{100 * mark:g} %" if axes.log_x else tick_text(mark, at)
        parts.append(_text(x, bottom + 17, text, "middle", "tick"))
    return [*parts, _text((axes.left + WIDTH - axes.right) / 2, bottom + 36, label, "middle", "axis")]


def _y_axis(axes: Axes) -> list[str]:
    at, parts = ticks(axes.y_low, axes.y_high), []
    for mark in at:
        y = axes.y(mark)
        parts.append(f'<line class="gridline" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 7, y + 4, tick_text(mark, at), "end", "tick"))
    return parts


def _line(axes: Axes, line: Line) -> tuple[str, list[tuple[float, float]]]:
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    # What leaves the frame, such as the first steep fall of a loss, is drawn along its edge.
    points = [(axes.x(x[k]), min(max(axes.y(y[k]), _TOP), axes.height - _BOTTOM)) for k in kept]
    parts = [f'<g class="{line.tone}{" faint" if line.faint else ""}">']
    if len(points) > 1:
        parts.append(f'<path class="line" d="M{" L".join(f"{a:.1f} {b:.1f}" for a, b in points)}"/>')
    if line.low is not None and line.high is not None:
        for k, (a, _) in zip(kept, points, strict=True):
            if math.isfinite(line.low[k]) and math.isfinite(line.high[k]):
                ends = f'y1="{axes.y(line.low[k]):.1f}" y2="{axes.y(line.high[k]):.1f}"'
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
    names = [_cut(line.name, 20) for line in shown]
    wide = max(len(name) + len(line.note) + 2 for name, line in zip(names, shown, strict=True)) * _LETTER + 24
    tall = 17 * len(shown)
    corners = []
    for x in (WIDTH - _RIGHT - wide, _LEFT + 8):
        for y in (axes.height - _BOTTOM - tall - 8, _TOP + 2):
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
