"""Measured results beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mmgraph_robust.reporting.cells import MISSING, Column, Table, change_cell, metric_label, number_cell, text_cell
from mmgraph_robust.reporting.entries import Entry, identity_of
from mmgraph_robust.reporting.summary import undefended_lines


def published_table(entries: Sequence[Entry], published: Mapping[str, Any]) -> Table:
    """The undefended, clean metrics of each model beside its published ones, and whether they agree.

    Args:
        entries: Result entries.
        published: ``source``, ``tolerance`` (a relative difference, 0.05 for 5 %) and ``values``: published metrics by
            name, per label of a model.
    """
    tolerance = float(published["tolerance"])
    columns = [Column("Model"), Column("Metric"), Column("Published", kind="value"), Column("Ours", kind="value")]
    columns += [Column("Difference", kind="change"), Column("Seeds", kind="value"), Column("Within tolerance")]
    bare = undefended_lines(entries)
    cells = []
    for model, values in published["values"].items():
        own = [e["clean"]["metrics"] for e in entries if e["model"] == model and identity_of(e)[:3] in bare]
        for metric, value in values.items():
            found = [metrics[metric] for metrics in own if metric in metrics]
            name = [text_cell(model), text_cell(metric_label(metric)), number_cell(float(value))]
            if not found:
                cells.append([*name, *[text_cell(MISSING)] * 4])
                continue
            mean, spread = fmean(found), stdev(found) if len(found) > 1 else None
            change = 100 * (mean - value) / value
            verdict = "yes" if abs(change) <= 100 * tolerance else "above" if change > 0 else "below"
            seeds = number_cell(len(found), digits=0)
            cells.append([*name, number_cell(mean, spread), change_cell(change), seeds, text_cell(verdict)])
    notes = [
        f"Published: {published['source']}",
        f"Tolerance: {100 * tolerance:g} %, what papers differ by among themselves for the same model.",
    ]
    return Table.from_cells("Ours beside the published numbers", columns, cells, notes)
