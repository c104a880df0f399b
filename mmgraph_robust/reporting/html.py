"""One self-contained page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.findings import sentences
from mmgraph_robust.reporting.goals import goal_table
from mmgraph_robust.reporting.plots import plot_budget_curve, plot_margins, plot_training
from mmgraph_robust.reporting.summary import Row, summarize
from mmgraph_robust.reporting.tables import (
    Table,
    full,
    headline,
    metric_label,
    sensitive_table,
    to_html,
    training_table,
)
from mmgraph_robust.utils import write_text


def write_page(
    entries: Sequence[Entry], path: str | Path, title: str = "Robustness report", metric: str = "recall@20"
) -> None:
    """Writes the report of some result entries as one HTML file that needs no network.

    Args:
        entries: Result entries.
        path: The file.
        title: Its title.
        metric: The metric of the first table and of the pictures.

    Raises:
        CheckpointError: If an entry is incomplete or occurs twice.
        ConfigError: If no entry has the metric.
        DataError: If there are no entries.
    """
    environment = Environment(
        loader=PackageLoader("mmgraph_robust.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = summarize(entries)
    said = sentences(rows, metric)
    sensitive, goals = sensitive_table(entries), goal_table(entries)
    page = environment.get_template("report.html.j2").render(
        title=title,
        metric=metric_label(metric),
        sentences=said,
        headlines=[_markup(headline(own, metric)) for own in _by_dataset(rows)],
        sensitive=_markup(sensitive) if sensitive.rows else None,
        goals=_markup(goals) if goals.rows else None,
        margins=_pictures(plot_margins(rows, metric), "Score margin per channel"),
        curves=_pictures(plot_budget_curve(rows, metric), f"{metric_label(metric)} against the budget"),
        training=_pictures(plot_training(entries), "Validation metric per epoch"),
        training_table=_markup(training_table(entries)),
        full=_markup(full(rows, metric)),
        made=[(_name(entry), _described(entry)) for entry in entries],
    )
    write_text(path, page)


def _by_dataset(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row.dataset == name] for name in sorted({row.dataset for row in rows})]


def _markup(table: Table) -> Markup:
    # Safe to pass on: to_html has escaped every text of the table.
    return Markup(to_html(table))


def _pictures(figures: Sequence[tuple[str, Figure]], what: str) -> list[dict[str, Any]]:
    return [
        {"alt": f"{what}: {name}", "width": round(100 * figure.get_figwidth()), "png": _png(figure)}
        for name, figure in figures
    ]


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    # Twice the width at which the page shows it, for screens of high density.
    figure.savefig(buffer, format="png", dpi=200)
    return base64.b64encode(buffer.getvalue()).decode()


def _name(entry: Entry) -> str:
    return f"{entry['dataset']}, {entry['model']}, defense {entry['defense']}, seed {entry['seed']}"


def _described(entry: Entry) -> str:
    described = {"config": entry["config"], "provenance": entry["provenance"]}
    return json.dumps(described, indent=1, ensure_ascii=False)
