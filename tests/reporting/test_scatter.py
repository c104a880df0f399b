"""The scatter shows each line where its numbers are."""

from __future__ import annotations

import math
import re

import pytest

from mmgraph_robust.reporting import plot_scatter, summarize
from mmgraph_robust.reporting.board import make_board
from mmgraph_robust.reporting.scatter import charts, readers, shape_path, wide


def test_points_lines_and_levels(entries):
    ((name, figure),) = plot_scatter(entries)
    assert name == "scatter-hm"
    (ax,) = [ax for ax in figure.axes if ax.axison]
    assert [text.get_text() for text in ax.texts] == ["1", "1", "1"]
    points = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
              for line in ax.get_lines() if line.get_markersize() == 11}  # fmt: skip
    # Means of 0.20 and 0.22, and what PGD on the texts leaves of them.
    assert points["o"] == pytest.approx((0.21, (0.2 * 0.85 + 0.22 * 0.84) / 2))
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["LightGCN (reads no features)"].get_ydata()[0] == pytest.approx(0.15)
    assert list(lines["nothing lost"].get_xdata()) == list(lines["nothing lost"].get_ydata())
    assert "PGD on textual, 5 % per item" in ax.get_title()


def test_nothing_attacked_nothing_drawn(entry):
    assert plot_scatter([entry()]) == []
    assert charts(make_board(summarize([entry()]))) == []


def test_drawing_of_the_page(entries):
    board = make_board(summarize(entries))
    (chart,) = charts(board)
    left, upper, right, lower = chart.box
    assert readers(board) == ["GRCN"]
    assert [mark["line"] for mark in chart.marks] == [0, 1, 2]
    for mark in chart.marks:
        row = board.shown(board.lines[mark["line"]])
        assert mark["y"] == pytest.approx(lower - (lower - upper) * row.mean["recall@20"] / chart.top, abs=0.1)
        assert left <= mark["x"] <= right
    assert sorted(chart.arrows) == [(1, 0), (1, 2)]
    x0, y0, x1, y1 = chart.diagonal
    assert x0 < x1
    assert y0 > y1
    assert chart.floor == (pytest.approx(lower - (lower - upper) * 0.15 / chart.top, abs=0.1), "LightGCN 0.1500")


def test_the_scale_holds_every_case(entry):
    gains = entry(kept={("PGD", "visual", 0.05): 0.5, ("Noise", "visual", 0.1): 1.4})
    (chart,) = charts(make_board(summarize([gains])))
    assert chart.top >= 1.4 * 0.2


def test_a_line_without_the_default_case_has_no_height(entry):
    one, other = entry("A", kept={("PGD", "visual", 0.05): 0.5}), entry("B", kept={("MIM", "visual", 0.1): 0.5})
    (chart,) = charts(make_board(summarize([one, other])))
    assert [mark["y"] is None for mark in chart.marks] == [False, True]


def test_every_defense_has_a_shape_of_its_own(entry):
    assert len({shape_path(index) for index in range(28)}) == 28
    kept = {("PGD", "visual", 0.05): 0.5}
    runs = [entry("A", kept=kept), *(entry("A", f"D{k:02}", kept=kept) for k in range(27))]
    (chart,) = charts(make_board(summarize(runs)))
    assert len({mark["path"] for mark in chart.marks}) == 28
    ((_, figure),) = plot_scatter(runs)
    legend = figure.legends[0]
    figure.draw_without_rendering()
    assert legend.get_window_extent().y0 >= 0
    shapes = {handle.get_marker() for text, handle in zip(legend.texts, legend.legend_handles, strict=True)
              if text.get_text().startswith("defense: ")}  # fmt: skip
    assert len(shapes) == 28


@pytest.mark.parametrize("index", range(28))
def test_shapes_have_one_size(index):
    if index == 0:
        assert shape_path(index) == "M-8 0a8 8 0 1 0 16 0a8 8 0 1 0 -16 0z"
    if index % 8 == 0:
        reach, half = map(float, re.findall(r"a([.\d]+) ([.\d]+)", shape_path(index))[0])
        assert reach * half == pytest.approx(64, rel=0.01)
        return
    points = [tuple(map(float, pair.split())) for pair in re.findall(r"[-.\d]+ [-.\d]+", shape_path(index))]
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2
    assert abs(area) == pytest.approx(math.pi * 64, rel=0.03)


def test_small_differences_are_not_blown_up():
    assert wide(0.1, 0.4) == (0.1, 0.4)
    low, high = wide(0.2269, 0.2272)
    assert low < 0.21 < 0.2272 < high
    assert high - low == pytest.approx(0.2 * 0.2272)
    assert wide(0.0, 0.0) == (-0.1, 0.1)
