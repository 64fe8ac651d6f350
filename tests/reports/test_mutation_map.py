"""Heat maps of changes: what stands where, and what each cell tells; pixels are looked at, not tested."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from genolm.reports.mutation_figure import mutation_figure
from genolm.reports.mutation_map import MutationMap, bits_of, glyph, limit_of
from genolm.reports.mutation_page import mutation_page, mutation_svg

SVG = "{http://www.w3.org/2000/svg}"


def made(ref="ACGTN", first=1001, deletions=False, chrom="chr1"):
    """Scores that are −place, −place / 2 … but at REF and N."""
    scores = np.full((len(ref), 5 if deletions else 4), np.nan)
    for column, base in enumerate(ref):
        for row in range(scores.shape[1]):
            if base != "N" and "ACGT-"[row] != base:
                scores[column, row] = (-1 if row % 2 else 1) * (column + 1) / (row + 1)
    heights = np.full((len(ref), 4), np.nan)
    heights[[base != "N" for base in ref]] = (0.1, 0.4, 0.2, 0.05)
    return MutationMap(chrom, first, ref, scores, heights)


def drawn(svg):
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def titles(svg):
    return [element.text for element in drawn(svg).iter(f"{SVG}title")]


@pytest.mark.parametrize("deletions", [False, True])
def test_every_cell_tells_its_place_change_and_score(deletions):
    found = titles(mutation_svg(made(deletions=deletions), 2.0, 2.0))
    cells = [tip for tip in found if tip.startswith("chr1:")]
    assert len(cells) == 5 * (5 if deletions else 4) == len(set(cells)) + (4 if deletions else 3)  # N says the same
    assert cells[0] == "chr1:1,001 A, the reference"
    assert cells[1] == "chr1:1,001 A→C −0.50"
    assert "chr1:1,003 G→A +3.00" in cells
    assert cells.count("chr1:1,005 N, not scored") == (5 if deletions else 4)
    assert ("chr1:1,001 A→– +0.20 against the mean deletion" in cells) == deletions
    assert len([tip for tip in found if tip.endswith(" bits")]) == 4  # no logo at N


def test_a_cell_is_as_opaque_as_its_score_is_far_from_zero():
    svg = mutation_svg(made("AC"), 1.0, 1.0)
    cells = re.findall(r'class="(minus|plus)" fill-opacity="([\d.]+)"><title>chr1:\S+ \S+ (\S+)</title>', svg)
    assert len(cells) == 6
    for kind, opacity, score in cells:
        value = float(score.replace("−", "-"))
        assert (kind == "minus") == (value < 0)
        assert float(opacity) == pytest.approx(min(abs(value), 1), abs=0.006)


def test_the_tallest_letter_stands_on_top_and_letters_do_not_overlap():
    stack = made().stack(0)
    assert [base for base, _, _ in stack] == ["T", "A", "G", "C"]
    np.testing.assert_allclose([bottom for _, bottom, _ in stack], [0, 0.05, 0.15, 0.35])
    assert made().stack(4) == []
    svg = mutation_svg(made("A"), 1.0, 1.0)
    places = re.findall(r'#base-(\w)".*?translate\([\d.]+ ([\d.]+)\) scale\([\d.]+ ([\d.]+)\)', svg)
    for (_, top, _), (_, top_above, _) in zip(places, places[1:], strict=False):
        assert float(top_above) < float(top)
    for (_, top, _), (_, top_above, tall_above) in zip(places, places[1:], strict=False):
        assert float(top_above) + float(tall_above) == pytest.approx(float(top), abs=0.02)


def test_long_regions_are_wrapped():
    for size, sizes in ((1, [1]), (100, [100]), (120, [60, 60]), (250, [90, 90, 70]), (1000, [100] * 10)):
        lines = list(made("A" * size).lines())
        assert [len(line) for line in lines] == sizes
        assert [k for line in lines for k in line] == list(range(size))
    one = made("A" * 25, first=1005)
    assert [one.first + k for k in one.marks(range(25))] == [1010, 1020]
    assert made("AC", first=1001).marks(range(2)) == [0]
    svg = mutation_svg(made("A" * 250), 1.0, 1.0)
    assert len(drawn(svg).findall(f"{SVG}g")) == 3 and svg.count(">1,010<") == 1


def test_scales_are_shared_and_never_empty():
    one, nothing = made(), made("NNN")
    assert limit_of([nothing]) == 1 and bits_of([nothing]) == 0.05
    assert limit_of([one, nothing]) == limit_of([one]) == pytest.approx(4, rel=0.05)
    assert bits_of([one]) == 0.8  # 0.75 in all
    assert bits_of([replace(one, heights=one.heights / 5)]) == 0.2


def test_outlines_of_letters_fill_the_unit_square():
    for base in "ACGT":
        points, codes = glyph(base)
        seen = points[codes != 79]
        np.testing.assert_allclose([seen.min(0), seen.max(0)], [[0, 0], [1, 1]], atol=1e-12)
        assert codes[0] == 1 and len(points) == len(codes)


def test_the_page_needs_nothing_else_and_escapes_names():
    bad = '<script>"&'
    page = mutation_page([made(chrom=bad), made("TT")], bad, {"Model": bad})
    assert "<script" not in page and "http" not in page.replace("http-equiv", "") and "src=" not in page
    assert "default-src 'none'" in page
    body = page[page.index("<body>") : page.index("</body>")]
    for svg in re.findall(r"<svg .*?</svg>", body, re.DOTALL):
        drawn(svg)
    for base in "ACGT":
        assert page.count(f'id="base-{base}"') == 1
    assert body.count("<h2>") == 3  # two regions, and how to read it
    assert "18 substitutions, 44 % of them" in page  # rows C and T are below 0: 6 of 12, and 2 of 6
    assert "nothing" not in page and "deletion" in mutation_page([made(deletions=True)], "x", {})


def test_extremes_are_substitutions_of_their_sign():
    low, high = made(deletions=True).extremes(2)
    assert low == ["1,003 G→C −1.50", "1,004 T→C −2.00"][::-1]
    assert high == ["1,004 T→A +4.00", "1,003 G→A +3.00"]
    assert made("NN").extremes(3) == ([], [])


@pytest.mark.parametrize("ref", ["A", "ACGTNACGTA", "NNN", "ACGT" * 30])
def test_a_figure_is_drawn(tmp_path, ref):
    mutation_figure(made(ref, deletions=True), "LLR, nats", tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    wide, tall = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    assert data.startswith(b"\x89PNG") and wide >= 900
    assert (tall > 500) == (len(ref) > 100)
