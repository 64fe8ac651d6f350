"""matplotlib figures as inline SVG that takes its colours and font from the page.

Colours of PALETTE become CSS variables, so that one drawing serves light, dark and print. A chart is 400 units wide,
about the width of a phone, with text 11 to 12 units high.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for colour-blind readers, and in grey. report.css names the same colours.
TONES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, QUIET, RULE, PAPER, WASH, REST = "#1b1f24", "#5b6570", "#dde2e7", "#ffffff", "#f6f8f9", "#b4bbc3"
MINUS, PLUS = "#b2182b", "#2166ac"
PALETTE: dict[str, str] = {INK: "ink", QUIET: "quiet", RULE: "rule", PAPER: "paper", WASH: "wash", REST: "rest"}
PALETTE |= {MINUS: "minus", PLUS: "plus"} | {tone: f"t{number}" for number, tone in enumerate(TONES)}
WIDTH = 400
_MAX_PIXELS = 60_000  # matplotlib draws no more than 65,535


def new_figure(width: float, height: float, **options) -> "Figure":
    """Return an empty figure outside pyplot's global state; sizes in SVG units."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), facecolor="none", **options)


def add_axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Add axes without a frame; sizes in SVG units, from the upper left corner."""
    wide, tall = figure.get_size_inches() * 72
    axes = figure.add_axes((left / wide, 1 - (top + height) / tall, width / wide, height / tall), facecolor="none")
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=11.5, labelcolor=QUIET, pad=6)
    axes.set_axisbelow(True)
    return axes


def figure_svg(figure: "Figure", label: str, tips: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return a figure as an `<svg>` element for a page.

    Args:
        figure: drawn in colours of PALETTE.
        label: what it shows, for screen readers.
        tips: gid of an artist → a tooltip for each of its marks.
    """
    from matplotlib import rc_context

    plain_text(figure)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "genolm"}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = _smaller(_with_tips(text[text.index("<g id=") : text.rindex("</svg>")], tips or {}))
    text = re.sub("#[0-9a-f]{6}", lambda m: f"var(--{PALETTE[m[0]]})" if m[0] in PALETTE else m[0], text)
    wide, tall = figure.get_size_inches() * 72
    return f'<svg viewBox="0 0 {wide:g} {tall:g}" role="img" aria-label="{escape(label)}">{text}</svg>'


def save_png(figure: "Figure", path: str | Path) -> None:
    """Write a figure as PNG at 150 dots per inch, fewer where it is taller than matplotlib can draw."""
    plain_text(figure)
    figure.savefig(path, format="png", dpi=min(150, _MAX_PIXELS / figure.get_size_inches().max()), facecolor=PAPER)


def plain_text(figure: "Figure") -> None:
    """Show `$` in names as it is, instead of as mathematics."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]


def _with_tips(text: str, tips: Mapping[str, Sequence[str]]) -> str:
    for gid, titles in tips.items():
        before, group = text.split(f'<g id="{gid}">')
        group, *after = re.split(r"(?=<g id=)", group, maxsplit=1)
        # matplotlib draws few marks as paths, and many as uses of one path.
        head, *marks = re.split("(?=<use )" if "<use " in group else "(?=<path )", group)
        marks = [
            mark.replace("/>", f"><title>{escape(title)}</title></{mark[1 : mark.index(' ')]}>", 1)
            for mark, title in zip(marks, titles, strict=True)
        ]
        text = "".join([before, "<g>", head, *marks, *after])
    return text


def _smaller(text: str) -> str:
    """Leave out what a page does not need, and digits beyond a tenth of a unit."""
    for pattern, short in (
        (r"<!--.*?-->|<clipPath.*?</clipPath>", ""),
        (r' clip-path="[^"]*"| transform="rotate\(-0[^"]*"', ""),
        (r'<g id="[^"]*"(/?)>', r"<g\1>"),
        (r"xlink:href", "href"),
        (r"font-family: [^;\"]*;? ?", ""),
        (r"font: ([\d.]+px) [^;\"]*", r"font-size: \1"),
        (r"\s*\n\s*", " "),
        (r"<g/>|<defs> </defs>", ""),
        *2 * ((r"(<g>\s*</g>\s*)+", ""),),
    ):
        text = re.sub(pattern, short, text, flags=re.DOTALL)
    text = re.sub(r' (d|x|y|transform)="[^"]*"', lambda m: re.sub(r"-?\d+\.\d+", _tenth, m[0]), text)
    return re.sub(r'd="[^"]*"', lambda m: re.sub(r" ?([MLQCz]) ?", r"\1", m[0]), text)


def _tenth(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")
