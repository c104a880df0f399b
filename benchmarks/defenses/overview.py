"""The results as a picture: what each defense leaves, clean and attacked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.defenses.search import spaces
from mmgraph_robust.utils import atomic_write

Result = dict[str, Any]
Run = dict[str, Any]

# Told apart by the colour-blind, too.
_COLOURS = ("#0072B2", "#D55E00", "#CC79A7")


def draw(
    panels: dict[str, Sequence[Result]],
    clean: Callable[[Run], float],
    attacked: Callable[[Run, float], float | None],
    path: Path,
) -> None:
    """One panel per backbone, one line per defense, the most robust on top.

    Args:
        panels: The results of each backbone, of one data set.
        clean: The clean recall of a run.
        attacked: What the suite leaves of it at a budget; :obj:`None` where it was not attacked.
        path: Where the PNG goes.
    """
    budgets = spaces()["test"]["budgets"]
    measures: list[Callable[[Run], float | None]] = [
        clean, *((lambda run, b=b: attacked(run, b)) for b in budgets),  # type: ignore[misc]
    ]  # fmt: skip
    names = ["clean", *(f"suite, {100 * b:g} %" for b in budgets)]
    heights = [len(results) + 2.5 for results in panels.values()]
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.6, 0.185 * sum(heights) + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).flatten()
        for axis, (model, results) in zip(axes, panels.items(), strict=True):
            _panel(axis, results, measures, names)
            axis.set_title(model, loc="left", fontweight="bold")
        axes[-1].set_xlabel("Recall@20 on test; whiskers: sample standard deviation over seeds")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=130, metadata={"Software": None})


def _panel(
    axis: Axes, results: Sequence[Result], measures: Sequence[Callable[[Run], float | None]], names: Sequence[str]
) -> None:
    found = [[[x for x in map(of, r["runs"]) if x is not None] for of in measures] for r in results]
    means = [[statistics.mean(values) if values else None for values in row] for row in found]

    def robust(place: int) -> float:
        # What reads no features keeps what it has under every attack.
        kept = means[place][1]
        return kept if kept is not None else means[place][0] or 0.0

    order = sorted(range(len(results)), key=robust)
    for height, place in enumerate(order):
        there = [x for x in means[place] if x is not None]
        axis.plot([min(there), max(there)], [height, height], color="0.85", linewidth=1.5, zorder=1)
    for k, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        points = [(means[place][k], found[place][k], height) for height, place in enumerate(order)]
        shown = [(x, statistics.stdev(values) if len(values) > 1 else 0.0, y) for x, values, y in points if values]
        axis.errorbar(
            [x for x, _, _ in shown], [y for *_, y in shown], xerr=[spread for _, spread, _ in shown],
            fmt="o", markersize=4, color=colour, label=name, elinewidth=1, capsize=2, zorder=2,
        )  # fmt: skip
    undefended = next((means[k][0] for k, r in enumerate(results) if r["defense"] == "none"), None)
    if undefended is not None:
        floor = (1 - spaces()["search"]["max_clean_loss"]) * undefended
        axis.axvline(floor, color=_COLOURS[0], linewidth=0.8, linestyle=":", zorder=0, label="clean recall to keep")
    axis.set_yticks(range(len(order)), [results[place]["defense"] for place in order])
    for label, place in zip(axis.get_yticklabels(), order, strict=True):
        entry = spaces()["defenses"].get(results[place]["defense"], {})
        label.set_color("0.45" if entry.get("control") else "black")
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.set_xlim(left=0)
    axis.grid(axis="x", color="0.93")
    axis.set_axisbelow(True)
