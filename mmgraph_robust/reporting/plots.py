"""Pictures of results, as matplotlib figures that need no display."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mmgraph_robust.reporting.canvas import STYLE, colour, draw_floor, legend, line_style, pages, plain
from mmgraph_robust.reporting.cells import metric_label
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.scatter import plot_scatter
from mmgraph_robust.reporting.settings import CONTROL, Setting
from mmgraph_robust.reporting.summary import (
    Row,
    as_rows,
    check_metric,
    choose_settings,
    defense_names,
    defense_order,
    strongest,
    summarize,
)
from mmgraph_robust.utils import atomic_write

_HATCHES = ("", "///", "...", "xxx", "\\\\\\")


@mpl.rc_context(STYLE)
def plot_budget_curve(results: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> list[tuple[str, Figure]]:
    """The metric against the budget: a figure for each threat, a panel per model, a line per defense.

    Each panel shows the attack that is strongest there, and random noise of the same size as dashed lines. A model
    that reads no features is a dotted level to compare with. All panels of a data set have one scale.

    Args:
        results: Result entries, or their summary.
        metric: The metric.

    Returns:
        Names and figures, one or more per data set and threat.
    """
    rows = as_rows(results)
    check_metric(rows, metric)
    figures = []
    for dataset, own in _by_dataset(rows).items():
        defenses = defense_names(own)
        top = 1.05 * max(row.mean.get(metric, 0.0) for row in own) or 1.0
        readers = [row for row in own if row.feature_path != "none"]
        settings = sorted({s for row in readers if (s := row.setting) is not None}, key=lambda s: s.order)
        for setting in {_reach(s): s for s in settings}.values():
            modalities, scope, norm, relative = _reach(setting)
            here = [row for row in readers if _same_threat(row, setting)]
            models = list(dict.fromkeys(row.model for row in here if row.attack is not None))
            kind = "-".join(
                ["budget", "+".join(modalities), *([] if (scope, norm) == ("item", "l2") else [scope, norm])]
                + ([] if relative else ["absolute"])
            )
            unit = "% of the features' norm" if relative else "in the unit of the features"
            title = f"{dataset}: {metric_label(metric)} under attacks on {' + '.join(modalities)}, {setting.threat}"
            for name, figure, axes, page in pages(kind, dataset, title, models):
                for ax, model in zip(axes, page, strict=True):
                    attack = _draw_curves(ax, [row for row in here if row.model == model], defenses, metric)
                    draw_floor(ax, own, metric)
                    ax.set_title(plain(f"{model}\n{shorten(attack, 48, placeholder=' …')}"))
                    ax.set_xlabel(f"budget, {unit}")
                    ax.set_ylim(0, top)
                    if ax.get_subplotspec().is_first_col():
                        ax.set_ylabel(plain(metric_label(metric)))
                legend(figure, axes)
                figures.append((name, figure))
    return figures


@mpl.rc_context(STYLE)
def plot_margins(entries: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> list[tuple[str, Figure]]:
    """Score margin per channel, clean and under the strongest attack on each set of modalities.

    Args:
        entries: Result entries, or their summary.
        metric: The metric by which the attacks are chosen.

    Returns:
        Names and figures, one or more per data set; bars are means over seeds, whiskers standard deviations.
    """
    figures = []
    for dataset, rows in _by_dataset(as_rows(entries)).items():
        own = [row for row in rows if row.feature_path != "none" and row.margins]
        settings = choose_settings(own, metric)
        panels = [row for row in own if row.attack is None]
        title = f"{dataset}: score margin of each channel"
        for name, figure, axes, page in pages("margins", dataset, title, panels):
            for ax, clean in zip(axes, page, strict=True):
                attacked = {row.setting: row for row in own if row.line == clean.line}
                _draw_margins(ax, clean, [(s, attacked.get(s)) for s in settings])
                ax.set_title(plain(f"{clean.model}, defense: {clean.defense}"))
                ax.set_ylabel("margin (units of the score)")
            _share_scale(axes, page)
            legend(figure, axes)
            figures.append((name, figure))
    return figures


@mpl.rc_context(STYLE)
def plot_training(entries: Sequence[Entry]) -> list[tuple[str, Figure]]:
    """The monitored validation metric per epoch: a panel per model, a line per defense and seed.

    Args:
        entries: Result entries.

    Returns:
        Names and figures, one or more per data set.
    """
    figures = []
    datasets = sorted({entry["dataset"] for entry in entries})
    for dataset in datasets:
        own = [entry for entry in entries if entry["dataset"] == dataset and _monitored(entry)]
        defenses = list(dict.fromkeys(entry["defense"] for entry in sorted(own, key=defense_order)))
        panels = sorted({(entry["model"], entry["training"]["monitor"]) for entry in own})
        for name, figure, axes, page in pages("training", dataset, f"{dataset}: validation during training", panels):
            for ax, (model, monitor) in zip(axes, page, strict=True):
                runs = [e for e in own if (e["model"], e["training"]["monitor"]) == (model, monitor)]
                for entry in sorted(runs, key=lambda e: (*defense_order(e), e["seed"])):
                    points = _monitored(entry)
                    index = defenses.index(entry["defense"])
                    # The marker carries what the colour says, also where lines cross.
                    style = line_style(index) | {"markersize": 3, "linewidth": 1}
                    label = plain(entry["defense"])
                    ax.plot(*zip(*points, strict=True), markevery=max(1, len(points) // 8), label=label, **style)
                ax.set_title(plain(model))
                ax.set_xlabel("epoch")
                ax.set_ylabel(plain(f"validation {metric_label(monitor)}"))
                ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
            legend(figure, axes)
            figures.append((name, figure))
    return figures


def save_figures(entries: Sequence[Entry], folder: str | Path, metric: str = "recall@20") -> list[Path]:
    """Writes all pictures as PNG files.

    Args:
        entries: Result entries.
        folder: Where to.
        metric: The metric of scatter and budget curves.

    Returns:
        The paths of the files.
    """
    rows = summarize(entries)
    paths: list[Path] = []
    drawn = [*plot_scatter(rows, metric), *plot_budget_curve(rows, metric), *plot_margins(rows, metric)]
    for name, figure in [*drawn, *plot_training(entries)]:
        path = Path(folder) / f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}.png"
        # Two data sets whose names differ only in odd characters must not share a file.
        path = path if path not in paths else path.with_name(f"{path.stem}-{len(paths)}.png")
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=130)
        paths.append(path)
    return paths


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw_curves(ax: Any, rows: Sequence[Row], defenses: Sequence[str], metric: str) -> str:
    """Draws a panel and returns the name of the attack that it shows."""
    # A clean row belongs to every panel of its model.
    declines: dict[bool, dict[str, dict[Hashable, float]]] = {False: {}, True: {}}
    for row in rows:
        if row.setting is not None:
            cases = declines[row.setting.is_control].setdefault(row.setting.attack, {})
            value = row.decline.get(metric)
            if value is not None:
                cases[row.defense, row.budget] = value
    attacks, controls = declines[False], declines[True]
    # A line needs points: what was run on few budgets cannot be the one that is shown.
    longest = max(map(len, attacks.values()), default=0)
    attacks = {name: cases for name, cases in attacks.items() if 2 * len(cases) >= longest}
    noise = [strongest(controls)] if controls else []
    shown = strongest(attacks) if attacks else noise[0]
    budgets: set[float] = set()
    for attack in dict.fromkeys([shown, *noise]):
        control = attack != shown
        for defense in defense_names(rows):
            own = [row for row in rows if row.defense == defense and metric in row.mean]
            line = sorted((row for row in own if row.attack in (None, attack)), key=lambda row: row.budget)
            if all(row.attack is None for row in line):
                continue
            index = defenses.index(defense)
            # A panel shows one kind of budgets.
            unit = 1 if any(row.setting is not None and not row.setting.relative for row in line) else 100
            x, y = [unit * row.budget for row in line], [row.mean[metric] for row in line]
            label = f"{defense}, {CONTROL} (control)" if control else defense
            style = line_style(index) | ({"linestyle": "--"} if control else {})
            ax.plot(x, y, **style, linewidth=1.3, markersize=3 if control else 4.5,
                    markerfacecolor="white" if control else None, label=plain(label))  # fmt: skip
            spread = [row.std.get(metric) for row in line]
            if not control and any(s is not None for s in spread):
                low = [value - (s or 0.0) for value, s in zip(y, spread, strict=True)]
                high = [value + (s or 0.0) for value, s in zip(y, spread, strict=True)]
                ax.fill_between(x, low, high, color=colour(index), alpha=0.15, linewidth=0)
            budgets.update(x)
    _budget_axis(ax, sorted(budgets))
    return shown


def _budget_axis(ax: Any, budgets: Sequence[float]) -> None:
    positive = [budget for budget in budgets if budget > 0]
    if positive and positive[-1] / positive[0] > 10:
        ax.set_xscale("symlog", linthresh=positive[0])
    ax.minorticks_off()
    # Ticks where something was measured, unless so close together that their labels would touch.
    left, right = ax.transData.transform([(budgets[0], 0), (budgets[-1], 0)])[:, 0]
    kept: list[float] = []
    place = -float("inf")
    for budget in budgets:
        here = ax.transData.transform((budget, 0))[0]
        if here - place >= 0.09 * (right - left):
            kept.append(budget)
            place = here
    ax.set_xticks(kept, [f"{budget:.3g}" for budget in kept])


def _draw_margins(ax: Any, clean: Row, attacked: Sequence[tuple[Setting, Row | None]]) -> None:
    channels = list(clean.margins)
    width = 0.8 / (1 + len(attacked))
    for index, (label, row) in enumerate([("clean", clean), *((s.label, row) for s, row in attacked)]):
        if row is None:
            continue
        present = [(place, channel) for place, channel in enumerate(channels) if channel in row.margins]
        x = [place - 0.4 + (index + 0.5) * width for place, _ in present]
        spread = [row.margins_std.get(channel) or 0.0 for _, channel in present]
        heights = [row.margins[channel] for _, channel in present]
        bars = {"color": colour(index), "hatch": _HATCHES[index % len(_HATCHES)], "edgecolor": "white"}
        whiskers = {"elinewidth": 0.8, "ecolor": "#333333", "capsize": 2}
        ax.bar(x, heights, width, label=plain(label), linewidth=0.4, yerr=spread if any(spread) else None,
               error_kw=whiskers, **bars)  # fmt: skip
    ax.set_xticks(range(len(channels)), [plain(channel) for channel in channels])
    ax.axhline(0, color="black", linewidth=0.8)


def _share_scale(axes: Sequence[Any], rows: Sequence[Row]) -> None:
    # Scores of different models have different units; within a model, heights are to be compared.
    for model in {row.model for row in rows}:
        group = [ax for ax, row in zip(axes, rows, strict=True) if row.model == model]
        low, high = min(ax.get_ylim()[0] for ax in group), max(ax.get_ylim()[1] for ax in group)
        for ax in group:
            ax.set_ylim(low, high)


def _same_threat(row: Row, setting: Setting) -> bool:
    other = row.setting
    return other is None or _reach(other) == _reach(setting)


def _reach(setting: Setting) -> tuple[tuple[str, ...], str, str, bool]:
    return setting.modalities, setting.scope, setting.norm, setting.relative


def _monitored(entry: Entry) -> list[tuple[float, float]]:
    training = entry["training"]
    monitor = training.get("monitor")
    return [(h["epoch"], h[monitor]) for h in training["history"] if isinstance(h.get(monitor), (int, float))]


def _by_dataset(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.order):
        groups.setdefault(row.dataset, []).append(row)
    return groups
