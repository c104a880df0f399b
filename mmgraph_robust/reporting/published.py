"""Measured results beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.tables import MISSING, Column, Table, format_change, metric_label


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
    cells = []
    for model, values in published["values"].items():
        own = [e["clean"]["metrics"] for e in entries if e["model"] == model and e["defense"] == "none"]
        for metric, value in values.items():
            found = [metrics[metric] for metrics in own if metric in metrics]
            name = [(model, None, None), (metric_label(metric), None, None), (f"{value:.4f}", float(value), None)]
            if not found:
                cells.append([*name, *[(MISSING, None, None)] * 4])
                continue
            mean, spread = fmean(found), stdev(found) if len(found) > 1 else None
            change = 100 * (mean - value) / value
            text = f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
            verdict = "yes" if abs(change) <= 100 * tolerance else "above" if change > 0 else "below"
            seeds = (str(len(found)), float(len(found)), None)
            difference = (format_change(change), change, None)
            cells.append([*name, (text, mean, spread), difference, seeds, (verdict, None, None)])
    notes = [
        f"Published: {published['source']}",
        f"Tolerance: {100 * tolerance:g} %, what papers differ by among themselves for the same model.",
    ]
    return Table.from_cells("Ours beside the published numbers", columns, cells, notes)
