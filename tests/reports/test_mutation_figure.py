"""Heat maps of changes: positions, colours, letters and tooltips."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex

from genolm.reports.mutation_figure import (
    BASE_COLOURS,
    MutationMap,
    bits_of,
    cell_tips,
    draw_mutations,
    letter_outline,
    limit_of,
)
from genolm.reports.mutation_report import mutation_page
from genolm.reports.svg import MINUS, PLUS, WASH, save_png


def made(ref="ACGTN", start=1000, deletions=False, chrom="chr1"):
    """Scores that are −place, −place / 2 … but at REF and N."""
    scores = np.full((len(ref), 5 if deletions else 4), np.nan)
    for column, base in enumerate(ref):
        for row in range(scores.shape[1]):
            if base != "N" and "ACGT-"[row] != base:
                scores[column, row] = (-1 if row % 2 else 1) * (column + 1) / (row + 1)
    heights = np.full((len(ref), 4), np.nan)
    heights[[base != "N" for base in ref]] = (0.1, 0.4, 0.2, 0.05)
    return MutationMap(chrom, start, ref, scores, heights)


def cells_of(region, limit=2.0):
    """Return the cells of the first line of a drawn region, in the order of their tooltips."""
    figure = draw_mutations(region, limit, 2.0)
    (cells,) = (part for axes in figure.axes for part in axes.collections if part.get_gid() == "cells0")
    return cells


@pytest.mark.parametrize("deletions", [False, True])
def test_each_cell_has_a_tooltip_with_position_change_and_score(deletions):
    tips = cell_tips(made(deletions=deletions))["cells0"]
    assert len(tips) == 5 * (5 if deletions else 4) == len(set(tips)) + (4 if deletions else 3)  # N repeats its tip
    assert tips[0] == "chr1:1,001 A, the reference"
    assert tips[1] == "chr1:1,001 A→C −0.50"
    assert "chr1:1,003 G→A +3.00" in tips
    assert tips.count("chr1:1,005 N, not scored") == (5 if deletions else 4)
    assert ("chr1:1,001 A→– +0.20 against the mean deletion" in tips) == deletions


def test_a_cell_is_as_opaque_as_its_score_is_far_from_zero():
    region = made("AC")
    cells = cells_of(region, limit=1.0)
    scores, colours = region.scores.ravel(), cells.get_facecolor()
    assert np.asarray(cells.get_offsets()).tolist() == [[column, row] for column in range(2) for row in range(4)]
    for score, colour in zip(scores, colours, strict=True):
        if np.isnan(score):
            assert to_hex(colour) == WASH
        else:
            assert to_hex(colour) == (MINUS if score < 0 else PLUS)
            assert colour[3] == pytest.approx(min(abs(score), 1), abs=0.006)


def test_the_tallest_letter_stands_on_top_and_letters_do_not_overlap():
    stack = made().stack(0)
    assert [base for base, _, _ in stack] == ["T", "A", "G", "C"]
    np.testing.assert_allclose([bottom for _, bottom, _ in stack], [0, 0.05, 0.15, 0.35])
    assert made().stack(4) == []
    logo = draw_mutations(made("A"), 1.0, 1.0).axes[0]
    extents = [letter.get_path().get_extents() for letter in logo.patches]
    assert [to_hex(letter.get_facecolor()) for letter in logo.patches] == [BASE_COLOURS[base] for base in "TAGC"]
    for (_, bottom, height), box in zip(stack, extents, strict=True):
        np.testing.assert_allclose(box.extents, [-0.46, bottom, 0.46, bottom + height], atol=1e-9)


def test_long_regions_are_wrapped():
    for size, sizes in ((1, [1]), (100, [100]), (120, [60, 60]), (250, [90, 90, 70]), (1000, [100] * 10)):
        lines = list(made("A" * size).lines())
        assert [len(line) for line in lines] == sizes
        assert [k for line in lines for k in line] == list(range(size))
    one = made("A" * 25, start=1004)
    assert [one.position(column) for column in one.ticks(range(25))] == ["1,010", "1,020"]
    assert made("AC").ticks(range(2)) == [0]
    figure = draw_mutations(made("A" * 250), 1.0, 1.0)
    heat_maps = figure.axes[1::2]
    assert [len(axes.get_xticks()) for axes in heat_maps] == [9, 9, 7]
    assert [axes.get_xticklabels()[0].get_text() for axes in heat_maps] == ["1,010", "1,100", "1,190"]


def test_scales_are_shared_and_never_empty():
    one, nothing = made(), made("NNN")
    assert limit_of([nothing]) == 1 and bits_of([nothing]) == 0.05
    assert limit_of([one, nothing]) == limit_of([one]) == pytest.approx(4, rel=0.05)
    assert bits_of([one]) == 0.8  # 0.75 in all
    assert bits_of([replace(one, heights=one.heights / 5)]) == 0.2


def test_outlines_of_letters_fill_the_unit_square():
    for base in "ACGT":
        np.testing.assert_allclose(letter_outline(base).get_extents().extents, [0, 0, 1, 1], atol=1e-12)


def test_the_page_needs_nothing_else_and_escapes_names():
    bad = '<script>"&$x$'
    page = mutation_page([made(chrom=bad), made("TT")], bad, {"Model": bad})
    assert "<script" not in page and "http" not in page.replace("http-equiv", "") and "src=" not in page
    assert "default-src 'none'" in page
    body = page[page.index("<body>") : page.index("</body>")]
    for svg in re.findall(r"<svg .*?</svg>", body, re.DOTALL):
        ElementTree.fromstring(svg)
    assert page.count("<title>") == 1 + 5 * 4 + 2 * 4  # the page's, and one for each cell
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
    region = made(ref, deletions=True)
    save_png(draw_mutations(region, limit_of([region]), bits_of([region]), "LLR, nats"), tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    wide, tall = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    assert data.startswith(b"\x89PNG") and wide >= 900
    assert (tall > 600) == (len(ref) > 100)
