"""Two sets of results side by side: what was done differently, and whether it made a difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.reporting.cells import (
    MISSING,
    Column,
    Table,
    difference_cell,
    format_signed,
    metric_label,
    number_cell,
    text_cell,
)
from mmgraph_robust.reporting.changes import Change, Measured, differences, shown
from mmgraph_robust.reporting.comparisons import comparison_table
from mmgraph_robust.reporting.entries import Entry, identity_of
from mmgraph_robust.reporting.pairing import Comparison, judged, pair_up, parts_of, setting_order
from mmgraph_robust.reporting.settings import Setting, attacks_of, fingerprint
from mmgraph_robust.reporting.sources import read_source
from mmgraph_robust.reporting.summary import by_line, defense_order
from mmgraph_robust.utils import hash_json

Identity = tuple[str, str, str, int]

_WORDS = {"no difference shown": "within noise", "not tested": "means only"}


@dataclass(frozen=True)
class ResultComparison:
    """What :func:`compare` found.

    Args:
        a: Name of the first results.
        b: Name of the second.
        metric: The metric.
        trainings: The trainings that both have: data set, model, defense and seed.
        cells: Each model, defense and setting that both have, over the seeds that both have.
        changes: What differs in configuration and provenance.
        only_a: What only A has: trainings, and what was done to one that both have.
        only_b: What only B has.
        other_data: Data sets that are not the same data in A and B, with both hashes; they have no cells.
    """

    a: str
    b: str
    metric: str
    trainings: tuple[str, ...]
    cells: tuple[Comparison, ...]
    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    other_data: Mapping[str, tuple[str, str]]

    @staticmethod
    def verdict(cell: Comparison) -> str:
        """``"identical"``, ``"within noise"``, ``"better"``, ``"worse"`` (B against A), or ``"means only"``."""
        return "identical" if cell.identical else _WORDS.get(cell.verdict, cell.verdict)

    def describe(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        cells = []
        for cell in self.cells:
            setting = "clean" if cell.setting is None else cell.setting.label
            extra = {"setting": setting, "difference": cell.difference, "verdict": self.verdict(cell)}
            cells.append(asdict(replace(cell, setting=None)) | extra)
        return asdict(replace(self, cells=())) | {"cells": cells}

    @property
    def tables(self) -> list[Table]:
        """The cells that differ, what was done differently, and what only one has, as far as there is any."""
        different = [cell for cell in self.cells if not _equal(cell)]
        names = ("A", "B")
        cells = comparison_table(different, self.metric, title="B against A", names=names, words=_WORDS)
        if len(different) < len(self.cells):
            note = f"{len(self.cells) - len(different)} cells without any difference are not shown."
            cells = replace(cells, notes=(note, *cells.notes))
        return [table for table in (cells, *self.circumstances) if table.rows]

    @property
    def circumstances(self) -> list[Table]:
        """What was done differently, and what only one has, as far as there is any."""
        names = ("A", "B")
        changes = [
            [change.key, shown(change.before), shown(change.after), self._where(change)] for change in self.changes
        ]
        alone = [[name, thing] for name, own in zip(names, (self.only_a, self.only_b), strict=True) for thing in own]
        tables = [
            _text_table("What differs", ("Key", *names, "Trainings"), changes),
            _text_table("What only one has", ("In", "What"), alone),
        ]
        return [table for table in tables if table.rows]

    @property
    def brief(self) -> Table:
        """The cells that differ, for a narrow screen."""
        columns = [Column("What"), Column("A", kind="value"), Column("B", kind="value"), Column("B - A", kind="value")]
        cells = []
        for cell in self.cells:
            if _equal(cell):
                continue
            setting = "clean" if cell.setting is None else cell.setting.label
            what = f"{cell.dataset}, {cell.model}, {cell.defense}: {setting}"
            interval = f"{cell.test.low:+.4f} to {cell.test.high:+.4f}" if cell.test else MISSING
            numbers = [number_cell(cell.before), number_cell(cell.after), difference_cell(cell.difference)]
            cells.append(
                [text_cell(what), *numbers, text_cell(interval), text_cell(self.verdict(cell).removeprefix("within "))]
            )
        columns += [Column("95 % interval"), Column("Verdict")]
        note = "Verdicts are corrected for the number of cells (Holm): an interval without 0 may still be noise."
        return Table.from_cells(f"{metric_label(self.metric)}, B against A", columns, cells, [note])

    def _where(self, change: Change) -> str:
        if len(change.trainings) == len(self.trainings):
            return "all"
        return f"{len(change.trainings)} of {len(self.trainings)}: {_listed(change.trainings)}"

    @property
    def sentences(self) -> list[str]:
        """What it comes to, in plain words."""
        count = len(self.trainings) or "no"
        said = [f"A is {self.a}, B is {self.b}; they share {count} training{'s' if count != 1 else ''}."]
        for dataset, (before, after) in self.other_data.items():
            said.append(
                f"'{dataset}' is not the same data in A and B (data hash {shown(before)} and {shown(after)}): "
                "that is no comparison of models, and none is made."
            )
        if self.cells:
            said.append(self._counts())
        for word in ("better", "worse"):
            found = sorted((c for c in self.cells if c.verdict == word), key=lambda c: -abs(c.difference))
            if found:
                said.append(f"B is {word} in {_listed([_sized(c) for c in found])}.")
        untested = [cell for cell in self.cells if cell.untested]
        if untested:
            reasons = ", ".join(sorted({cell.untested for cell in untested}))
            same = sum(map(_equal, untested))
            most = _sized(max(untested, key=lambda cell: abs(cell.difference)))
            rest = "all are equal" if same == len(untested) else f"equal in {same}; {most} differs most"
            said.append(f"In {len(untested)} cells only means can be compared ({reasons}): {rest}.")
        if self.changes:
            said.append(f"What was done differs in {_listed([str(change) for change in self.changes], 5)}.")
        elif self.trainings:
            said.append("Configuration and provenance are the same.")
        for name, alone in (("A", self.only_a), ("B", self.only_b)):
            if alone:
                said.append(f"Only in {name}: {_listed(alone)}.")
        return said

    def _counts(self) -> str:
        verdicts = [self.verdict(cell) for cell in self.cells]
        counts = {word: verdicts.count(word) for word in ("identical", "within noise", "better", "worse", "means only")}
        return (
            f"{metric_label(self.metric)} of B against A in {len(self.cells)} cells: "
            + ", ".join(f"{count} {word}" for word, count in counts.items() if count)
            + "."
        )


def compare(
    a: str | Path, b: str | Path, metric: str = "recall@20", *, resamples: int = 10_000, seed: int = 0
) -> ResultComparison:
    """Compares two sets of results: by data set, model, defense, seed and setting.

    Each cell is averaged over the seeds that both have and tested over users, as in :func:`comparisons`; all cells
    together make the family whose p-values are corrected. An attack that both ran with other arguments is one setting,
    and its arguments are among the changes.

    Args:
        a: The first results: a file, a folder or ``COMMIT:PATH`` (:func:`read_source`).
        b: The second.
        metric: The metric.
        resamples: Least number of draws.
        seed: Seed of the draws.

    Raises:
        CheckpointError: If there are no results, or one side has a training twice or mixes data.
        ConfigError: If a source does not exist, or neither has the metric.
    """
    return compare_entries(
        read_source(a), read_source(b), metric, names=(str(a), str(b)), resamples=resamples, seed=seed
    )


def compare_entries(
    first: Sequence[Entry],
    second: Sequence[Entry],
    metric: str = "recall@20",
    *,
    names: tuple[str, str] = ("A", "B"),
    resamples: int = 10_000,
    seed: int = 0,
) -> ResultComparison:
    """:func:`compare` of entries that are read already.

    Args:
        first: Entries of A.
        second: Entries of B.
        metric: See :func:`compare`.
        names: What to call them.
        resamples: See :func:`compare`.
        seed: See :func:`compare`.
    """
    known = {name for entry in (*first, *second) for name in entry["clean"]["metrics"]}
    if metric not in known:
        raise ConfigError(unknown_name("metric", metric, known))
    sides = [{identity_of(e): e for group in by_line(entries).values() for e in group} for entries in (first, second)]
    other_data = _other_data(*sides)
    order = {i: (*i[:2], *defense_order(e), i[3]) for side in sides for i, e in side.items()}
    shared = sorted(sides[0].keys() & sides[1].keys(), key=order.__getitem__)
    alone = [[_name(i) for i in sorted(side.keys() - set(shared), key=order.__getitem__)] for side in sides]
    # One name for each attack in all seeds of a side.
    among = [attacks_of(entries) for entries in (first, second)]
    changes: dict[str, tuple[Change, list[str]]] = {}
    lines: dict[tuple[str, str, str], list[dict[Setting | None, dict[int, Entry]]]] = {}
    for identity in shared:
        entries = [side[identity] for side in sides]
        measured = [_measured(entry, metric, own) for entry, own in zip(entries, among, strict=True)]
        measured[1] = _renamed(measured[1], measured[0])
        for key, before, after in differences(entries, measured):
            change = Change(key, before, after, ())
            changes.setdefault(hash_json([key, before, after]), (change, []))[1].append(_name(identity))
        for own, found, others in zip(alone, measured, reversed(measured), strict=True):
            missing = sorted(found.keys() - others.keys(), key=setting_order)
            if missing:
                own.append(f"{_name(identity)}: {_listed(['clean' if s is None else s.label for s in missing])}")
        if identity[0] not in other_data:
            both = lines.setdefault(identity[:3], [{}, {}])
            for parts, found in zip(both, measured, strict=True):
                for setting, part in found.items():
                    parts.setdefault(setting, {})[identity[3]] = part
    pairs = [
        pair_up(line, setting, ours[setting], theirs[setting], metric, "in A")
        for line, (ours, theirs) in lines.items()
        for setting in sorted(ours.keys() & theirs.keys(), key=setting_order)
        if ours[setting].keys() & theirs[setting].keys()
    ]
    return ResultComparison(
        a=names[0],
        b=names[1],
        metric=metric,
        trainings=tuple(map(_name, shared)),
        cells=tuple(judged(pairs, lambda _: None, resamples=resamples, seed=seed)),
        changes=tuple(replace(change, trainings=tuple(where)) for change, where in changes.values()),
        only_a=tuple(alone[0]),
        only_b=tuple(alone[1]),
        other_data=other_data,
    )


def _other_data(first: Mapping[Identity, Entry], second: Mapping[Identity, Entry]) -> dict[str, tuple[str, str]]:
    hashes = [
        {i[0]: found for i, entry in side.items() if (found := entry["provenance"].get("data_hash")) is not None}
        for side in (first, second)
    ]
    both = sorted(hashes[0].keys() & hashes[1].keys())
    return {name: (hashes[0][name], hashes[1][name]) for name in both if hashes[0][name] != hashes[1][name]}


def _measured(entry: Entry, metric: str, among: Sequence[dict[str, Any]]) -> Measured:
    return {setting: by_seed[entry["seed"]] for setting, by_seed in parts_of([entry], metric, among).items()}


def _renamed(theirs: Measured, ours: Measured) -> Measured:
    """Their attacks under our names where they are the same: what else was run beside one is part of its name."""
    names = {fingerprint(part): setting for setting, part in ours.items()}
    found: dict[Setting | None, Entry] = {}
    others = []
    for setting, part in theirs.items():
        key = fingerprint(part)
        if key in names:
            found[names[key]] = part
        else:
            others.append((setting, part))
    for setting, part in others:
        name = setting
        # What is theirs alone must not take the name of what both have.
        numbers = count(1)
        while name is not None and name in found:
            name = name.numbered(next(numbers))
        found[name] = part
    return found


def _name(identity: Identity) -> str:
    dataset, model, defense, seed = identity
    return f"{model} with defense {defense} on {dataset}, seed {seed}"


def _equal(cell: Comparison) -> bool:
    """Whether nothing is known that differs."""
    return cell.identical or bool(cell.untested and not any(cell.by_seed))


def _sized(cell: Comparison) -> str:
    return f"{cell.name} ({format_signed(cell.difference, 4)})"


def _listed(things: Sequence[str], most: int = 3) -> str:
    return "; ".join(things[:most]) + (f"; and {len(things) - most} more" if len(things) > most else "")


def _text_table(title: str, names: Iterable[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table.from_cells(title, [Column(name) for name in names], [[*map(text_cell, row)] for row in rows])
