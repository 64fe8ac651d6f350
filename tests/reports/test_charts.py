"""Drawings: places by hand, every shape of input, and nothing unescaped."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from genolm.reports.charts import Line, Row, count_strips, interval_chart, line_chart, scatter
from genolm.reports.drawing import Axes, padded, tick_text, ticks


def drawn(svg):
    return ElementTree.fromstring(svg)


def test_ticks_are_round():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-0.31, 0.14) == pytest.approx([-0.3, -0.2, -0.1, 0, 0.1])
    assert ticks(3, 47) == [10, 20, 30, 40]
    for low, high in ((0, 1e-6), (-5e8, 3e8), (0.501, 0.502)):
        assert 2 <= len(ticks(low, high)) <= 8
    marks = ticks(-0.31, 0.14)
    assert [tick_text(mark, marks) for mark in marks] == ["−0.3", "−0.2", "−0.1", "0.0", "0.1"]


def test_axes_place_values():
    axes = Axes(0, 10, 0, 1, 340, left=50, right=50)
    assert (axes.x(0), axes.x(5), axes.x(10)) == (50, 200, 350)
    assert axes.y(0) == 340 - 44 and axes.y(1) == 12
    spaced = Axes(0.01, 1, 0, 1, 340, left=50, right=50, log_x=True)
    assert spaced.x(0.1) == pytest.approx(200)
    assert padded(2, 2, 0.1)[0] < 2 < padded(2, 2, 0.1)[1]


def test_names_are_escaped():
    bad = '<script>"&'
    rows = [Row(bad, "t0", 0.5, 0.4, 0.6, "0.5")]
    line = Line("t0", [0, 1], [0, 1], bad, bad, marks=True, tips=[bad, bad])
    for svg in (
        interval_chart(rows, bad, bad),
        line_chart([line], bad, bad, bad),
        scatter(np.zeros(2), np.ones(2), [], bad, bad, bad, 0, 1),
        count_strips([(bad, "t0", np.arange(10))], bad),
    ):
        drawn(svg)
        assert "<script" not in svg


def test_a_dot_lies_within_its_interval_and_nan_is_not_drawn():
    rows = [Row("a", "t0", 0.5, 0.4, 0.6, "0.5"), Row("b", "t1", float("nan"), float("nan"), float("nan"), "–")]
    svg = interval_chart(rows, "MCC", "all", zero=True)
    assert "nan" not in svg and svg.count("<circle") == 1
    bar = re.search(r'class="bar" x1="([\d.]+)" x2="([\d.]+)"', svg)
    dot = re.search(r'class="dot" cx="([\d.]+)"', svg)
    assert float(bar[1]) < float(dot[1]) < float(bar[2])
    assert float(dot[1]) == pytest.approx((float(bar[1]) + float(bar[2])) / 2, abs=0.1)


@pytest.mark.parametrize(
    "line",
    [
        Line("t0", [], []),
        Line("t0", [1.0], [2.0], "one"),
        Line("t0", [1.0, 2.0], [np.nan, np.nan], "none"),
        Line("t0", [1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "flat", marks=True),
        Line("t0", [0.0, 1.0], [0.0, 1.0], low=[np.nan, 0.5], high=[np.nan, 1.5]),
    ],
)
def test_every_line_is_drawn(line):
    svg = line_chart([line], "x", "y", "a chart")
    drawn(svg)
    assert "nan" not in svg.replace(">none<", "")


def test_the_key_stands_where_few_points_are():
    x = np.linspace(0, 1, 50)
    key = {}
    for name, y in (("rising", x), ("falling", 1 - x)):
        svg = line_chart([Line("t0", x, y, "a run")], "x", "y", "a chart")
        key[name] = [float(value) for value in re.search(r'class="under" x="([\d.]+)" y="([\d.]+)"', svg).groups()]
    # A rising line leaves the lower right empty, a falling one the upper right or lower left.
    assert key["rising"][0] > 200 and key["rising"][1] > 200
    assert (key["falling"][0] > 200) == (key["falling"][1] < 200)
