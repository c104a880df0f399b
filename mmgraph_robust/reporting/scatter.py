"""The clean-against-robust scatter: as a picture, and as a drawing of the page that its script moves and filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmgraph_robust.reporting.board import Board, make_board
from mmgraph_robust.reporting.canvas import STYLE, colour, draw_floor, marker, new_figure, plain
from mmgraph_robust.reporting.cells import metric_label
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.summary import Row, as_rows

# The shapes that tell defenses apart: corners, none for a circle, and turns, in parts of the way to the next corner.
_SHAPES = ((0, 0.0), (4, 0.5), (4, 0.0), (3, 0.0), (3, 0.5), (5, 0.0), (6, 0.0), (8, 0.0))
# Then the same again, wide and narrow, and a little of both: how much wider than high.
_STRETCHES = (1.0, 1.8, 1 / 1.8, 1.35, 1 / 1.35)
COLOURS = 7
_WIDTH, _HEIGHT = 480, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 12, 18, 44


@mpl.rc_context(STYLE)
def plot_scatter(results: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> list[tuple[str, Figure]]:
    """What is left under attack against what there was: a number and colour per model, a marker per defense.

    The attack is the leaderboard's default. On the diagonal nothing is lost; the dotted level is the best model that
    reads no features; lines lead from a model without a defense to the same with one.

    Args:
        results: Result entries, or their summary.
        metric: The metric.

    Returns:
        Names and figures, one per data set on which that attack was run.
    """
    rows = as_rows(results)
    board = make_board(rows, metric)
    models, defenses = readers(board), board.names("defense")
    figures = []
    for dataset in board.names("dataset"):
        lines = [line for line in board.lines if line.clean.dataset == dataset]
        points = {line.clean.line: (line.clean.mean[metric], row.mean[metric])
                  for line in lines if (row := board.shown(line)) is not None}  # fmt: skip
        if not points or board.default is None:
            continue
        starts = {line.clean.model: points[line.clean.line] for line in lines
                  if line.clean.undefended and line.clean.line in points}  # fmt: skip
        # As high as its legend.
        figure = new_figure(7.6, max(4.8, 0.2 * (3 + len(models) + len(defenses))))
        ax = figure.subplots()
        for (_, model, defense), (x, y) in points.items():
            number, shape = models.index(model), defenses.index(defense)
            start = starts.get(model, (x, y))
            ax.plot(*zip(start, (x, y), strict=True), color=colour(number), linewidth=0.8, alpha=0.6)
            ax.plot(x, y, marker=marker(shape), color=colour(number), markersize=11)
            ax.text(x, y, str(number + 1), color="white", ha="center", va="center_baseline", fontsize=7)
        clean = [x for x, _ in points.values()]
        ends = wide(min(clean), max(clean))
        ax.set_xlim(*ends)
        ax.plot(ends, ends, color="#555555", linewidth=0.8, label="nothing lost")
        draw_floor(ax, [row for row in rows if row.dataset == dataset], metric)
        ax.set_ylim(bottom=0)
        for number, model in enumerate(models):
            ax.plot([], [], "o", color=colour(number), label=plain(f"{number + 1}  {model}"))
        for shape, defense in enumerate(defenses if len(defenses) > 1 else []):
            style = {"marker": marker(shape), "linestyle": "none", "color": "#555555"}
            ax.plot([], [], **style, label=plain(f"defense: {defense}"))
        threat, attack = board.default
        ax.set_title(plain(f"{dataset}: {attack} on {threat}"))
        ax.set_xlabel(plain(f"{metric_label(metric)} on clean features"))
        ax.set_ylabel(plain(f"{metric_label(metric)} under attack"))
        figure.legend(loc="outside right upper", frameon=False)
        figures.append((f"scatter-{dataset}", figure))
    return figures


@dataclass(frozen=True)
class Chart:
    """One drawing of the page, in the units of its view box.

    Args:
        dataset: Name of the data set.
        top: The value at the upper edge; the lower edge is zero.
        box: Left, upper, right and lower edge of the plane.
        x_ticks: Places and labels.
        y_ticks: Places and labels.
        diagonal: The ends of the line on which nothing is lost.
        floor: Place and label of the best model that reads no features.
        marks: ``line`` (its index on the board), ``number``, ``colour``, ``path``, ``title``, ``x`` and ``y``; `y` is
            `None` where the default case was not run.
        arrows: ``start`` and ``end``: indices of two lines, without and with a defense.
    """

    dataset: str
    top: float
    box: tuple[int, int, int, int]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    diagonal: tuple[float, float, float, float]
    floor: tuple[float, str] | None
    marks: list[dict[str, Any]]
    arrows: list[tuple[int, int]]

    @property
    def size(self) -> str:
        """The view box."""
        return f"0 0 {_WIDTH} {_HEIGHT}"

    def place(self, line: int) -> dict[str, Any]:
        """The mark of a line of the board."""
        return next(mark for mark in self.marks if mark["line"] == line)


def readers(board: Board) -> list[str]:
    """The models that read features; their places are their numbers and colours in all scatters.

    Args:
        board: The leaderboard.
    """
    reading = {line.clean.model for line in board.lines if line.reads}
    return [name for name in board.names("model") if name in reading]


def charts(board: Board) -> list[Chart]:
    """The drawings of the page, one per data set on which a model was attacked.

    The scale holds every case of the board, so that marks can move from one to another.

    Args:
        board: The leaderboard.
    """
    return [chart for dataset in board.names("dataset") if (chart := _chart(board, dataset)) is not None]


def _chart(board: Board, dataset: str) -> Chart | None:
    metric = board.metric
    models, defenses = readers(board), board.names("defense")
    lines = {
        k: line for k, line in enumerate(board.lines) if line.clean.dataset == dataset and line.runs and line.reads
    }
    if not lines:
        return None
    clean = {k: line.clean.mean[metric] for k, line in lines.items()}
    floor = next(iter(lines.values())).floor
    levels = [row.mean[metric] for line in lines.values() for row in line.runs.values()] + list(clean.values())
    y_ticks = _ticks(0.0, max([*levels, *([] if floor is None else [floor.mean[metric]])]) or 1.0)
    x_ticks = _ticks(min(clean.values()), max(clean.values()))
    top, (low, high) = y_ticks[-1], (x_ticks[0], x_ticks[-1])
    left, upper, right, lower = box = (_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)

    def across(value: float) -> float:
        return round(left + (right - left) * (value - low) / (high - low), 1)

    def up(value: float) -> float:
        return round(lower - (lower - upper) * value / top, 1)

    marks = []
    for k, line in lines.items():
        row, number = board.shown(line), models.index(line.clean.model)
        shape = defenses.index(line.clean.defense)
        marks.append({
            "line": k, "number": number + 1, "colour": number % COLOURS, "path": shape_path(shape),
            "title": f"{line.clean.model}, defense: {line.clean.defense}",
            "doubtful": row is not None and bool(row.doubts),
            "x": across(clean[k]), "y": None if row is None else up(row.mean[metric]),
        })  # fmt: skip
    starts = {line.clean.model: k for k, line in lines.items() if line.clean.undefended}
    arrows = [(starts[line.clean.model], k) for k, line in lines.items()
              if not line.clean.undefended and line.clean.model in starts]  # fmt: skip
    end = min(high, top)
    return Chart(
        dataset=dataset,
        top=top,
        box=box,
        x_ticks=[(across(value), f"{value:g}") for value in x_ticks],
        y_ticks=[(up(value), f"{value:g}") for value in y_ticks],
        diagonal=(across(low), up(low), across(end), up(end)),
        floor=None if floor is None else (up(floor.mean[metric]), f"{floor.model} {floor.mean[metric]:.4f}"),
        marks=marks,
        arrows=arrows,
    )


def shape_path(index: int, radius: float = 8.0) -> str:
    """The outline of a defense's shape around the origin, as the data of an SVG path.

    Args:
        index: The defense's place; after forty shapes they begin anew.
        radius: Radius of the circle; the other shapes have about its area.
    """
    corners, turn = _SHAPES[index % len(_SHAPES)]
    stretch = math.sqrt(_STRETCHES[index // len(_SHAPES) % len(_STRETCHES)])
    if corners == 0:
        half = f"a{radius * stretch:.4g} {radius / stretch:.4g} 0 1 0"
        return f"M{-radius * stretch:.4g} 0{half} {2 * radius * stretch:.4g} 0{half} {-2 * radius * stretch:.4g} 0z"
    reach = radius * math.sqrt(2 * math.pi / (corners * math.sin(2 * math.pi / corners)))
    angles = [2 * math.pi * (k + turn) / corners for k in range(corners)]
    points = [f"{stretch * reach * math.sin(a):.1f} {-reach / stretch * math.cos(a):.1f}" for a in angles]
    return f"M{'L'.join(points)}z"


def wide(low: float, high: float) -> tuple[float, float]:
    """Limits of a scale that holds both ends, and is no magnifying glass: a fifth of the larger one wide at least.

    Args:
        low: The smaller end.
        high: The larger end.
    """
    lacking = max(0.0, 0.2 * (abs(high) or 1.0) - (high - low))
    return low - lacking / 2, high + lacking / 2


def _ticks(low: float, high: float) -> list[float]:
    ticks = MaxNLocator(6).tick_values(*wide(low, high))
    return [round(float(tick), 10) for tick in ticks]
