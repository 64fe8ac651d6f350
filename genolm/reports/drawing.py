"""Parts of an SVG drawing 400 units wide: scales, axes, text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 44


@dataclass(frozen=True)
class Axes:
    """Where values lie on a drawing of a given height."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: float
    left: float = LEFT
    right: float = RIGHT
    log_x: bool = False

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x_low, self.x_high
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (value - low) / (high - low) * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the vertical place of a value, from the top."""
        return self.height - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (self.height - BOTTOM - TOP)


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


def svg(height: float, label: str, parts: Sequence[str]) -> str:
    """Close a drawing; label is what it shows, for readers who hear it."""
    name = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def words(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    """Write text, escaped; anchor is start, middle or end; style a CSS class."""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def shorten(text: str, length: int) -> str:
    """Shorten text to so many letters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def diagonal_ends(axes: Axes, low: float, high: float) -> str:
    """Return the attributes of the line y = x from low to high."""
    return f'x1="{axes.x(low):.1f}" y1="{axes.y(low):.1f}" x2="{axes.x(high):.1f}" y2="{axes.y(high):.1f}"'


def padded(low: float, high: float, share: float) -> tuple[float, float]:
    """Widen a range by a share of itself; a range of one value, by a little."""
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = 0.05 * max(abs(high), 0.1)
        return low - pad, high + pad
    return low - share * (high - low), high + share * (high - low)


def value_range(values: Sequence[Sequence[float] | np.ndarray], share: float) -> tuple[float, float]:
    """Return the padded range of all finite values."""
    every = np.concatenate([np.asarray(part, dtype=np.float64) for part in values] or [np.empty(0)])
    every = every[np.isfinite(every)]
    return padded(float(every.min()), float(every.max()), share) if len(every) else (0.0, 1.0)


def x_axis(axes: Axes, label: str, marks: Sequence[float] | None = None, grid: bool = False) -> list[str]:
    """Return the axis at the bottom, marks and label; grid: with lines that rise from the marks."""
    bottom = axes.height - BOTTOM
    parts = [f'<line class="axis" x1="{axes.left:.1f}" x2="{WIDTH - axes.right}" y1="{bottom}" y2="{bottom}"/>']
    at = marks or ticks(axes.x_low, axes.x_high)
    for mark in at:
        x = axes.x(mark)
        if grid:
            parts.append(f'<line class="gridline" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        text = f"{100 * mark:g} %" if axes.log_x else tick_text(mark, at)
        parts.append(words(x, bottom + 17, text, "middle", "tick"))
    return [*parts, words((axes.left + WIDTH - axes.right) / 2, bottom + 36, label, "middle", "axis")]


def y_axis(axes: Axes) -> list[str]:
    """Return the marks of the axis at the left and the lines across."""
    at, parts = ticks(axes.y_low, axes.y_high), []
    for mark in at:
        y = axes.y(mark)
        parts.append(f'<line class="gridline" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(words(LEFT - 7, y + 4, tick_text(mark, at), "end", "tick"))
    return parts
