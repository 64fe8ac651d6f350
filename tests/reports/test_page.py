"""Templates: present in the package, escaped, and inline SVG that takes the page's colours."""

import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError

from genolm.reports.page import Cell, HtmlTable, render
from genolm.reports.svg import INK, PALETTE, TONES, add_axes, figure_svg, new_figure

EVIL = '</svg><script>"&$x$'


def test_templates_belong_to_the_package(project_dir):
    folder = resources.files("genolm.reports") / "templates"
    names = {file.name for file in folder.iterdir()}
    assert {"page.html.j2", "comparison.html.j2", "mutation.html.j2", "card.md.j2", "report.css"} <= names
    assert all(file.read_text() for file in folder.iterdir())
    assert '"genolm.reports" = ["templates/*"]' in (project_dir / "pyproject.toml").read_text()


def test_the_style_sheet_has_every_colour_of_figures():
    css = (resources.files("genolm.reports") / "templates" / "report.css").read_text()
    light = css[: css.index("@media (prefers-color-scheme: dark)")]
    for colour, name in PALETTE.items():
        assert f"--{name}: {colour}" in light
        assert css.count(f"--{name}: ") >= 3  # light, dark and print


def test_a_missing_value_is_an_error():
    with pytest.raises(UndefinedError):
        render("mutation.html.j2", title="x")


def figure_of(label):
    figure = new_figure(100, 80)
    axes = add_axes(figure, 20, 10, 70, 50)
    axes.plot([0, 1], [2, 3], color=TONES[0], label=label, marker="o", gid="marks0")
    axes.set_xlabel(label, color=INK)
    return figure


def test_a_figure_is_inline_svg_without_anything_that_fetches_or_leaks_styles():
    svg = figure_svg(figure_of("a"), "what it shows")
    root = ElementTree.fromstring(svg)
    assert (root.get("viewBox"), root.get("aria-label")) == ("0 0 100 80", "what it shows")
    assert "var(--t0)" in svg and not re.search(r"#[0-9a-f]{6}\b|http|url\(|<style|font-family", svg)
    assert figure_svg(figure_of("a"), "what it shows") == svg


def test_text_and_tooltips_are_escaped_and_dollars_are_dollars():
    svg = figure_svg(figure_of(EVIL), EVIL, {"marks0": [EVIL, "second"]})
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter() if element.text and element.text.strip()]
    assert root.get("aria-label") == EVIL and texts.count(EVIL) == 2 and "second" in texts
    assert "<script" not in svg


def test_cells_are_escaped():
    table = HtmlTable([EVIL], [[Cell(EVIL, note=EVIL, tone="t0", best=True)]])
    page = render(
        "comparison.html.j2", title=EVIL, over=EVIL, headline=EVIL, overview=table, tasks=[], confidence="95",
        replicates="1,000", runs=[], versions={}, packages=str,
    )  # fmt: skip
    assert "<script" not in page and page.count("&lt;script&gt;") == 6
