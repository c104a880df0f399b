"""What attackers with target items reached."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from mmgraph_robust.reporting.cells import Cell, Column, Table, metric_label, number_cell, text_cell
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.settings import Setting, attacks_of, labelled_attacks, notes_on_terms
from mmgraph_robust.reporting.summary import defense_order

_GOALS = {"Hide": "hide", "Promote": "promote"}


def goal_table(entries: Sequence[Entry]) -> Table:
    """The exposure of target items before and after each attack that promotes or hides them, averaged over seeds.

    Args:
        entries: Result entries; those of untargeted attacks have no part in it.
    """
    among = attacks_of(entries)
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    settings: list[Setting] = []
    for entry in sorted(entries, key=lambda e: (e["dataset"], e["model"], defense_order(e))):
        for setting, attack in labelled_attacks(entry["attacks"], among):
            goal = attack.get("goal") or {}
            # Foreign entries may tell less.
            if goal.get("name") not in _GOALS or not attack.get("measure") or "items" not in goal:
                continue
            (measure, values), *_ = attack["measure"].items()
            aim = f"{_GOALS[goal['name']]} {len(goal['items'])} items"
            who = "all users" if goal.get("users") is None else f"{len(goal['users'])} users"
            line = (entry["dataset"], entry["model"], entry["defense"], setting.label, aim, who, metric_label(measure))
            found.setdefault(line, []).append((values["clean"], values["attacked"]))
            settings.append(setting)
    names = ("Data set", "Model", "Defense", "Attack", "Goal", "Users", "Measure")
    columns = [*(Column(name) for name in names), Column("Seeds", kind="value")]
    columns += [Column("Before", kind="value"), Column("After", kind="value")]
    cells = []
    for key, pairs in found.items():
        numbers = [_cell([pair[side] for pair in pairs]) for side in (0, 1)]
        cells.append([*map(text_cell, key), number_cell(len(pairs), digits=0), *numbers])
    note = "Exposure@K is the share of the target items that stands among the first K of a user, averaged over users."
    notes = [note, *notes_on_terms(settings)] if cells else []
    return Table.from_cells("Promotion and hiding of items", columns, cells, notes)


def _cell(values: Sequence[float]) -> Cell:
    return number_cell(fmean(values), stdev(values) if len(values) > 1 else None)
