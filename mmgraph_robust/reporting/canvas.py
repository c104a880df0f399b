"""What all pictures share: one look, pages of panels, one legend below, and colours that everybody can tell apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmgraph_robust.reporting.summary import Row, floor_of

# Okabe and Ito's palette, told apart by the colour-blind too; its yellow is too pale for lines on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The seven that are told apart best come first; in tuples a number of corners, polygon or star, and a turn.
_MARKERS: tuple[Any, ...] = (
    *"osD^vP*Xph<>d8H",
    *((corners, 1, turn) for corners, turns in ((3, (0, 90, 180, 270)), (4, (0, 45)), (5, (180,)), (6, (0, 30)))
      for turn in turns),
    (8, 1, 0), (10, 1, 0), (5, 0, 180), (7, 0, 0),
)  # fmt: skip
# Dots are the floor's, even dashes those of the control.
_DASHES: tuple[Any, ...] = ("-", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)))
_PANELS = 9
STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "font.size": 8,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def pages(kind: str, dataset: str, title: str, panels: Sequence[Any]) -> Iterator[tuple[str, Figure, list[Any], Any]]:
    """Figures of at most nine panels each.

    Args:
        kind: What the pictures show, the beginning of their names.
        dataset: Name of the data set, the rest of their names.
        title: Their title.
        panels: What the panels are to show.

    Yields:
        The figure's name, the figure, its axes, and the panels that they are for.
    """
    parts = [panels[start : start + _PANELS] for start in range(0, len(panels), _PANELS)]
    for number, page in enumerate(parts, 1):
        name, words = f"{kind}-{dataset}", title
        if len(parts) > 1:
            name, words = f"{name}-{number}", f"{title} ({number} of {len(parts)})"
        columns = min(3, len(page))
        lines = -(-len(page) // columns)
        figure = new_figure(max(6.4, 3.4 * columns), 2.5 * lines + 0.9)
        axes = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
        for ax in axes[len(page) :]:
            ax.set_axis_off()
        figure.suptitle(plain(words), fontsize=11)
        yield name, figure, axes[: len(page)], page


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display.

    Args:
        width: In inches.
        height: In inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, axes: Sequence[Any]) -> None:
    """One legend below the figure for all of its panels.

    Args:
        figure: The figure.
        axes: Its panels.
    """
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        # As many side by side as fit the figure's width, at about 14 characters to the inch.
        fitting = int(14 * figure.get_figwidth() / (max(map(len, found)) + 8))
        columns = max(1, min(len(found), fitting, 5))
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False)


def draw_floor(ax: Any, rows: Sequence[Row], metric: str) -> None:
    """A dotted level: the best model that reads no features.

    Args:
        ax: The panel.
        rows: Summarised results of one data set.
        metric: The metric.
    """
    floor = floor_of(rows, metric)
    if floor is not None:
        ax.axhline(floor.mean[metric], color="#555555", linestyle=":", linewidth=1.2,
                   label=plain(f"{floor.model} (reads no features)"))  # fmt: skip


def plain(text: str) -> str:
    """A name as matplotlib prints it unchanged: a dollar sign would start a formula, a leading underscore hide a label.

    Args:
        text: The name.
    """
    return re.sub(r"^_", " _", text).replace("$", r"\$")


def colour(index: int) -> str:
    """The colour of the line with this number; after seven they begin anew."""
    return _COLOURS[index % len(_COLOURS)]


def marker(index: int) -> Any:
    """The marker that says the same as the colour, and more: 28 are different."""
    return _MARKERS[index % len(_MARKERS)]


def line_style(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the line with this number; lines of one colour differ in both of the others."""
    dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
    return {"color": colour(index), "marker": marker(index), "linestyle": dashes}
