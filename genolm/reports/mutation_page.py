"""Heat maps of changes with sequence logos, as one HTML page that needs nothing else: no script, no network.

Every cell tells its place, change and score to who rests the pointer on it. Colours are the page's: a cell is as opaque
as its score is far from 0, so that light, dark and print all work.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from genolm.reports.drawing import words
from genolm.reports.mutation_map import COLOURS, ROWS, MutationMap, bits_of, glyph, limit_of
from genolm.reports.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WIDE, _LEFT, _RIGHT, _LOGO, _UNDER = 1188, 40, 48, 64, 44
_STYLE = (
    """
:root { --minus: #b2182b; --plus: #2166ac; --A: #009e73; --C: #0072b2; --G: #e69f00; --T: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --minus: #f4705c; --plus: #62b0f0; --A: #1fbf92; --C: #56b4e9;
  --G: #f0b429; --T: #f07a3a; } }
@media print { :root { --minus: #b2182b; --plus: #2166ac; --A: #009e73; --C: #0072b2; --G: #e69f00; --T: #d55e00; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
figure.map { max-width: none; margin: 1.2rem 0 2.2rem; overflow-x: auto; }
.map svg { min-width: 760px; }
.map svg.short { min-width: 0; }
.hidden { position: absolute; width: 0; height: 0; }
.minus { fill: var(--minus); } .plus { fill: var(--plus); } .empty { fill: var(--wash); }
.map rect:hover, .map .ref:hover rect { stroke: var(--ink); stroke-width: 1.5; }
svg .ref text { font-size: 10.5px; fill: var(--quiet); }
svg path.glyph { fill: inherit; }
"""
    + " ".join(f".b{base} {{ fill: var(--{base}); }}" for base in COLOURS)
    + """
.scale { max-width: 380px; margin: 1.2rem 0 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.4rem; font-size: .9rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
"""
)


def mutation_page(maps: Sequence[MutationMap], name: str, about: Mapping[str, str]) -> str:
    """Return the page as text.

    Args:
        maps: a region each.
        name: of the score, such as `masked LLR, nats`.
        about: what it was made with: model, window, estimator.
    """
    limit, bits = limit_of(maps), bits_of(maps)
    values = np.concatenate([drawn.scores[:, :4].ravel() for drawn in maps])
    values = values[np.isfinite(values)]
    finding = f"{len(values):,} substitutions"
    if len(values):
        finding += f", {100 * float((values < 0).mean()):.0f} % of them less likely than the reference"
    bases = sum(len(drawn.ref) for drawn in maps)
    where = maps[0].title if len(maps) == 1 else f"{len(maps)} regions"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(f"genolm: {where}")}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}{_STYLE}</style></head><body>",
        f'<header><p class="over">{escape(f"saturation mutagenesis by a DNA language model · {where} · {bases:,} bp")}'
        f"</p><h1>{finding}</h1></header><main>",
        _letters(),
        "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.items()) + "</dl>",
        f'<figure class="scale">{_scale(limit, name)}</figure>',
    ]
    for drawn in maps:
        low, high = drawn.extremes(5)
        told = [f"Lowest: {', '.join(low)}."] if low else []
        told += [f"Highest: {', '.join(high)}."] if high else []
        parts.append(f"<section><h2>{escape(drawn.title)}</h2><p class=legend>{escape(' '.join(told))}</p>")
        parts.append(f'<figure class="map">{mutation_svg(drawn, limit, bits)}</figure></section>')
    parts.append(f"<footer>{_method(name, bits, maps[0].scores.shape[1] == 5)}</footer></main></body></html>\n")
    return "\n".join(parts)


def mutation_svg(drawn: MutationMap, limit: float, bits: float) -> str:
    """Draw a region: a logo above each line of the heat map.

    Its letters are those of `mutation_page`, once for all regions.

    Args:
        drawn: the region.
        limit: score at which colours are full.
        bits: top of the logo's axis.
    """
    lines, num_rows = list(drawn.lines()), drawn.scores.shape[1]
    longest = max(map(len, lines))
    cell = min(22.0, (_WIDE - _LEFT - _RIGHT) / longest)
    tall = 18 if cell >= 15 else 15
    wide = max(_LEFT + cell * longest + _RIGHT, 160)
    step = _LOGO + 6 + tall * num_rows + _UNDER
    parts = []
    for number, line in enumerate(lines):
        top = 8 + step * number
        parts.append(f'<g transform="translate({_LEFT} {top})">')
        parts += _logo(drawn, line, cell, bits)
        parts.append(f'<g transform="translate(0 {_LOGO + 6})">')
        parts += _cells(drawn, line, cell, tall, limit)
        parts.append("</g></g>")
    label = escape(f"scores of every change of {drawn.title}, with a sequence logo", quote=True)
    size = f'viewBox="0 0 {wide:g} {step * len(lines):g}" style="max-width:{wide:g}px"'
    short = ' class="short"' if wide < 760 else ""
    return f'<svg {size}{short} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _logo(drawn: MutationMap, line: range, cell: float, bits: float) -> list[str]:
    parts = [f'<line class="axis" x1="0" x2="{cell * len(line):.1f}" y1="{_LOGO}" y2="{_LOGO}"/>']
    parts += [words(-7, _LOGO + 3, "0", "end", "tick"), words(-7, 7, f"{bits:g}", "end", "tick")]
    parts.append(words(-7, _LOGO / 2 + 5, "bits", "end", "tick"))
    for column in line:
        stack = drawn.stack(column)
        if not stack:
            continue
        tip = ", ".join(f"{base} {height:.3f}" for base, _, height in reversed(stack))
        parts.append(f"<g><title>{drawn.first + column:,}: {tip} bits</title>")
        for base, bottom, height in stack:
            x, y = (column - line.start + 0.04) * cell, _LOGO * (1 - (bottom + height) / bits)
            size = f"scale({0.92 * cell:.2f} {_LOGO * height / bits:.3f})"
            parts.append(f'<use href="#base-{base}" class="b{base}" transform="translate({x:.1f} {y:.2f}) {size}"/>')
        parts.append("</g>")
    return parts


def _cells(drawn: MutationMap, line: range, cell: float, tall: float, limit: float) -> list[str]:
    num_rows = drawn.scores.shape[1]
    parts = [words(-9, tall * row + tall / 2 + 4, ROWS[row], "end") for row in range(num_rows)]
    for column in line:
        x = (column - line.start) * cell
        for row in range(num_rows):
            at = f'x="{x + 0.5:.1f}" y="{tall * row + 0.5:.1f}" width="{cell - 1:.1f}" height="{tall - 1:.1f}" rx="1"'
            score, place = float(drawn.scores[column, row]), f"{drawn.first + column:,}"
            if np.isfinite(score):
                shade = f'class="{"minus" if score < 0 else "plus"}" fill-opacity="{min(abs(score) / limit, 1):.2f}"'
                tip = f"{escape(drawn.chrom)}:{drawn.change(column, row)}"
                parts.append(f"<rect {at} {shade}><title>{tip}</title></rect>")
            elif drawn.ref[column] == ROWS[row]:
                tip = f"{escape(drawn.chrom)}:{place} {ROWS[row]}, the reference"
                middle = words(x + cell / 2, tall * row + tall / 2 + 3.7, ROWS[row], "middle")
                parts.append(f'<g class="ref"><title>{tip}</title><rect {at} class="empty"/>{middle}</g>')
            else:
                tip = f"{escape(drawn.chrom)}:{place} {escape(drawn.ref[column])}, not scored"
                parts.append(f'<rect {at} class="empty"><title>{tip}</title></rect>')
    for column in drawn.marks(line):
        middle = (column - line.start + 0.5) * cell
        parts.append(words(middle, tall * num_rows + 15, f"{drawn.first + column:,}", "middle", "tick"))
    return parts


def _letters() -> str:
    """Return the outlines of the letters, which logos refer to."""
    outlines = []
    for base in COLOURS:
        points, codes = glyph(base)
        points[:, 1] = 1 - points[:, 1]
        steps, k = [], 0
        while k < len(codes):
            number = {1: 1, 2: 1, 3: 2, 4: 3}.get(int(codes[k]), 0)
            names = {1: "M", 2: "L", 3: "Q", 4: "C"}
            steps.append(
                names[int(codes[k])] + " ".join(f"{v:.3f}" for v in points[k : k + number].ravel()) if number else "Z"
            )
            k += max(number, 1)
        outlines.append(f'<path id="base-{base}" class="glyph" d="{"".join(steps)}"/>')
    return f'<svg class="hidden" aria-hidden="true"><defs>{"".join(outlines)}</defs></svg>'


def _scale(limit: float, name: str) -> str:
    """Draw what colours mean."""
    parts, num = [words(0, 11, name, "start", "axis")], 95
    for k in range(num):
        value = 2 * k / (num - 1) - 1
        shade = f'class="{"minus" if value < 0 else "plus"}" fill-opacity="{abs(value):.2f}"'
        parts.append(f'<rect x="{4 * k}" y="20" width="4" height="12" {shade} shape-rendering="crispEdges"/>')
    parts.append(words(0, 47, f"≤ −{limit:.2g}, less likely than REF", "start", "tick"))
    parts.append(words(190, 47, "0", "middle", "tick"))
    parts.append(words(380, 47, f"≥ {limit:.2g}, more likely", "end", "tick"))
    return f'<svg viewBox="0 0 380 50" role="img" aria-label="colours of scores">{"".join(parts)}</svg>'


def _method(name: str, bits: float, deletions: bool) -> str:
    rows = "A, C, G, T, or nothing (–)" if deletions else "A, C, G or T"
    shifted = (
        " A deletion leaves a base less to be paid for, so that nearly all have high scores: they are drawn less their "
        "mean, and tell of places, not of deletions beside substitutions."
    )
    return (
        "<h2>How to read it</h2><p>Each column is a base of the region, each row what is put in its place: "
        f"{rows}. Colours give the {escape(name)}; the letter within a column is the base of the reference, and "
        "columns of other letters stay empty. All regions share one scale of colours, full for the most extreme "
        "hundredth."
        f"{shifted if deletions else ''}</p><p>Letters above are a sequence logo of what the model expects at each "
        "base: p(base) is taken proportional to exp(score), with 0 for the reference, and letters share a height of 2 "
        f"bits less the entropy of p. Its axis ends at {bits:g} of the 2 bits there can be. All numbers, none shifted, "
        "are in mutations.tsv.</p>"
    )
