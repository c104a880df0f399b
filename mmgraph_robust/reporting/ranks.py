"""Who comes first over many cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from mmgraph_robust.reporting.cells import (
    DOUBTFUL,
    NOT_APPLICABLE,
    Column,
    Table,
    marked,
    metric_label,
    number_cell,
    text_cell,
)
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.settings import Setting, notes_on_terms
from mmgraph_robust.reporting.summary import Row, as_rows, check_metric, over_shared_seeds, which_seeds

Line = tuple[str, str]
Case = tuple[str, "Setting | None"]


def _is_no_case(setting: Setting) -> bool:
    return setting.is_control or setting.is_targeted


def average_ranks(values: Mapping[Line, float]) -> dict[Line, float]:
    """The place of each value, 1 for the highest; equal values share the mean of their places.

    Args:
        values: The values by name.
    """
    numbers = values.values()
    return {
        name: 1 + sum(other > value for other in numbers) + (sum(other == value for other in numbers) - 1) / 2
        for name, value in values.items()
    }


def rank_table(results: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> Table:
    """The mean rank of each model with each defense over all cases, a data set and a setting each; 1 is the best.

    A case counts if all that are ranked were run in it, and is ranked over the seeds that all of them have. Models
    without a feature path are ranked on clean features only, among all; the other two ranks are among those that can be
    attacked. Random noise is no attack.

    Args:
        results: Result entries, or their summary.
        metric: The metric.

    Raises:
        ConfigError: If no result has the metric.
        DataError: If there are no results.
    """
    rows = as_rows(results)
    check_metric(rows, metric)
    lines = {(row.model, row.defense): row.feature_path != "none" for row in rows}
    bare = {(row.model, row.defense) for row in rows if row.undefended}
    attackable = {line for line, reached in lines.items() if reached}
    counted = [row for row in rows if metric in row.mean and not (row.setting and _is_no_case(row.setting))]
    doubtful = {(row.model, row.defense) for row in counted if row.doubts} & attackable
    cases: dict[Case, dict[Line, Row]] = {}
    for row in counted:
        cases.setdefault((row.dataset, row.setting), {})[row.model, row.defense] = row
    clean = {case: values for case, values in cases.items() if case[1] is None}
    attacked = {case: values for case, values in cases.items() if case[1] is not None}
    kinds = {"overall": (cases, attackable), "attacked": (attacked, attackable), "clean": (clean, set(lines))}
    shared = {kind: _shared(found, among, metric) for kind, (found, among) in kinds.items()}
    ranks = {kind: _mean_ranks(shared[kind]) for kind in kinds}

    def order(line: Line) -> tuple[object, ...]:
        known = [found.get(line, math.inf) for found in ranks.values()]
        return (*known, line[0], line not in bare, line[1])

    columns = [Column("Model"), Column("Defense"), *(Column(kind, "Mean rank", "value") for kind in kinds)]
    cells = []
    for line in sorted(lines, key=order):
        row_cells = [text_cell(line[0]), text_cell(line[1])]
        for kind, (_, among) in kinds.items():
            cell = number_cell(ranks[kind].get(line), digits=2) if line in among else text_cell(NOT_APPLICABLE)
            row_cells.append(marked(cell, DOUBTFUL if line in doubtful and kind != "clean" else ""))
        cells.append(row_cells)
    counts = ", ".join(f"{kind} over {len(shared[kind])} of {len(found)}" for kind, (found, _) in kinds.items())
    notes = [
        "1 is the best, ties share the mean of their places. A case is a data set and a setting (noise is none, "
        "nor is hiding or promoting items); it "
        f"counts if all that are ranked were run in it: {counts}.",
        *_missing_note(cases, attackable),
        *_seed_notes(kinds.values()),
        *notes_on_terms(row.setting for row in counted if row.setting is not None),
    ]
    if doubtful:
        notes.append(f"{DOUBTFUL} rests in part on numbers that are not to be trusted as they stand.")
    if len(attackable) < len(lines):
        names = ", ".join(sorted({model for model, _ in lines.keys() - attackable}))
        notes.append(f"No feature reaches the score of {names}: ranked on clean features only.")
    return Table.from_cells(f"Mean ranks by {metric_label(metric)}", columns, cells, notes)


def _shared(cases: Mapping[Case, Mapping[Line, Row]], among: set[Line], metric: str) -> list[dict[Line, float]]:
    """The values of the cases in which all of `among` were run, over the seeds that all have there."""
    return [
        {(row.model, row.defense): row.mean[metric] for row in shared}
        for rows in _whole(cases, among).values()
        if (shared := over_shared_seeds(rows))
    ]


def _whole(cases: Mapping[Case, Mapping[Line, Row]], among: set[Line]) -> dict[Case, list[Row]]:
    """The rows of the cases in which all of `among` were run."""
    found = {case: rows for case, rows in cases.items() if among and among <= set(rows)}
    return {case: [rows[line] for line in among] for case, rows in found.items()}


def _mean_ranks(cases: Sequence[Mapping[Line, float]]) -> dict[Line, float]:
    ranks = [average_ranks(values) for values in cases]
    return {line: fmean(rank[line] for rank in ranks) for line in ranks[0]} if ranks else {}


def _missing_note(cases: Mapping[Case, Iterable[Line]], lines: set[Line]) -> list[str]:
    """Who keeps most cases from counting."""
    missed = {line: sum(line not in set(found) for found in cases.values()) for line in lines}
    most = max(missed.values(), default=0)
    if not most:
        return []
    names = [f"{model} with defense {defense}" for (model, defense), count in sorted(missed.items()) if count == most]
    listed = "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"Most cases are missed by {listed} ({most} each)."]


def _seed_notes(kinds: Iterable[tuple[Mapping[Case, Mapping[Line, Row]], set[Line]]]) -> list[str]:
    """In how many cases seeds differ, and how many do not count for it."""
    differing, apart = set(), set()
    for cases, among in kinds:
        for case, rows in _whole(cases, among).items():
            shared = over_shared_seeds(rows)
            if not shared:
                apart.add(case)
            elif which_seeds(shared, rows):
                differing.add(case)
    notes = [f"{len(differing)} with other seeds for some are ranked over those that all have."] if differing else []
    return [*notes, *([f"{len(apart)} in which no seed is common to all do not count."] if apart else [])]
