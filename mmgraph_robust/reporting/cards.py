"""Everything about one training: a card for each data set, model, defense and seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmgraph_robust.reporting.cells import (
    DOUBTFUL,
    MISSING,
    NOT_APPLICABLE,
    Cell,
    Column,
    Table,
    change_cell,
    marked,
    metric_label,
    number_cell,
    text_cell,
)
from mmgraph_robust.reporting.changes import later_attacks
from mmgraph_robust.reporting.entries import Entry, best_validation
from mmgraph_robust.reporting.settings import Setting, attacks_of, labelled_attacks, notes_on_terms
from mmgraph_robust.reporting.summary import NOT_ATTACKABLE, decline_of, defense_order, doubts_of

_PATHS = {
    "direct": "reach the score directly",
    "graph": "reach the score through the item graph only",
    "none": f"do not reach the score: it {NOT_ATTACKABLE}",
}
_EXAMPLES = 3
_CARRIES = {
    "clean": "with everything",
    "mean_features": "its features all the same",
    "permuted_features": "another item's features",
    "without_channel": "without its channel",
    "only_channel": "its channel alone",
}


@dataclass(frozen=True)
class Card:
    """What the page tells about one entry.

    Args:
        id: Name of its place on the page.
        entry: The entry.
        headline: What happened, in one line.
        facts: Terms and texts.
        tables: Attacks, and what each modality carries.
        flags: What the evaluation said about the attacks, with the attacks that it was said about.
        doubtful: Whether one of the flags says that a number is not to be trusted.
        made: Configuration and provenance, as JSON.
    """

    id: str
    entry: Entry
    headline: str
    facts: Mapping[str, str]
    tables: tuple[Table, ...]
    flags: tuple[str, ...]
    doubtful: bool
    made: str

    @property
    def line(self) -> tuple[str, str, str]:
        """Data set, model and defense."""
        return self.entry["dataset"], self.entry["model"], self.entry["defense"]


def make_cards(entries: Sequence[Entry], metric: str = "recall@20") -> list[Card]:
    """The cards of entries, in the order of the tables.

    Args:
        entries: Result entries.
        metric: The metric by which attacks are told.
    """

    def order(entry: Entry) -> tuple[Any, ...]:
        line = entry["dataset"], entry["feature_path"] == "none", entry["model"]
        return *line, *defense_order(entry), entry["seed"]

    among = attacks_of(entries)
    return [_card(f"card-{number}", entry, metric, among) for number, entry in enumerate(sorted(entries, key=order))]


def _card(name: str, entry: Entry, metric: str, among: Sequence[Entry]) -> Card:
    attacks = labelled_attacks(entry["attacks"], among) if entry["feature_path"] != "none" else []
    tables = [_attack_table(attacks, entry["clean"]["metrics"].get(metric), metric)] if attacks else []
    if entry.get("carries"):
        tables.append(_carries_table(entry["carries"]))
    flags, doubtful = _flags(attacks)
    made = {"config": entry["config"], "provenance": entry["provenance"]}
    own = {setting.label: attack["provenance"] for setting, attack in attacks if "provenance" in attack}
    if own:
        made["attacks"] = own
    return Card(
        id=name,
        entry=entry,
        headline=_headline(attacks, entry, metric),
        facts=_facts(entry),
        tables=tuple(tables),
        flags=tuple(flags),
        doubtful=doubtful,
        made=json.dumps(made, indent=1, ensure_ascii=False),
    )


def _headline(attacks: Sequence[tuple[Setting, dict[str, Any]]], entry: Entry, metric: str) -> str:
    clean = entry["clean"]["metrics"].get(metric)
    text = f"{metric_label(metric)} {MISSING if clean is None else f'{clean:.4f}'}"
    if entry["feature_path"] == "none":
        return f"{text}, {NOT_ATTACKABLE}"
    return f"{text}, attacked {len(attacks)} times" if attacks else f"{text}, not attacked"


def _facts(entry: Entry) -> dict[str, str]:
    training, attacks = entry["training"], entry["attacks"]
    facts = {metric_label(name): f"{value:.4f}" for name, value in entry["clean"]["metrics"].items()}
    told = [f"{training['epochs']} epochs"] if training["epochs"] is not None else []
    if training["best_epoch"] is not None:
        told.append(f"the best is epoch {training['best_epoch']}")
    best = best_validation(training)
    if best is not None:
        told.append(f"{metric_label(training.get('monitor') or 'metric')} {best:.4f} on validation")
    told.append(_duration(training["seconds"]))
    facts["Training"] = ", ".join(told)
    if attacks:
        seconds = [attack["seconds"] for attack in attacks if attack.get("seconds") is not None]
        facts["Attacks"] = f"{len(attacks)}, {_duration(sum(seconds))}"
    later = later_attacks([entry])
    if later:
        facts["Later attacks"] = later
    if entry.get("memory_mb") is not None:
        facts["Memory"] = f"{entry['memory_mb']:.0f} MB at most"
    facts["Features"] = _PATHS[entry["feature_path"]]
    sensitive = entry.get("sensitive") or {}
    if sensitive:
        found = [sensitive.get(key) or MISSING for key in ("by_margin", "by_metric")]
        facts["Sensitive modality"] = f"{found[0]} by score margin, {found[1]} by metric"
    for key, term in (("key", "Key"), ("trained", "Key of the training")):
        if entry.get(key):
            facts[term] = str(entry[key])
    return facts


def _attack_table(attacks: Sequence[tuple[Setting, dict[str, Any]]], clean: float | None, metric: str) -> Table:
    """The strongest attack of each threat, beside random noise of the same size: 250 lines would hide what matters."""
    threats: dict[tuple[Any, ...], list[tuple[Setting, dict[str, Any]]]] = {}
    for setting, attack in sorted(attacks, key=lambda pair: pair[0].order):
        key = (setting.modalities, setting.budget, setting.threat)
        threats.setdefault(key, []).append((setting, attack))
    cells: list[list[Cell]] = []
    for (modalities, _, threat), found in threats.items():
        real = [pair for pair in found if not pair[0].is_control]
        noise = [attack["metrics"].get(metric) for setting, attack in found if setting.is_control]
        worst = min(real, key=lambda pair: pair[1]["metrics"].get(metric, 0.0), default=None)
        row = [text_cell(" + ".join(modalities)), text_cell(f"{found[0][0].size} {threat}")]
        row += [text_cell(worst[0].attack if worst else MISSING), number_cell(len(real), digits=0)]
        row += _outcome(worst[1] if worst else None, clean, metric)
        row.append(_change(min((value for value in noise if value is not None), default=None), clean))
        cells.append(row)
    columns = [Column("Attacked"), Column("Budget"), Column("Strongest attack"), Column("of", kind="value")]
    columns += [Column(metric_label(metric), kind="value"), Column("change", kind="change")]
    columns.append(Column("change by noise", kind="change"))
    terms = notes_on_terms(setting for setting, _ in attacks)
    return Table.from_cells("The strongest attack under each threat", columns, cells, terms)


def _outcome(attack: dict[str, Any] | None, clean: float | None, metric: str) -> list[Cell]:
    value = None if attack is None else attack["metrics"].get(metric)
    doubts = doubts_of(attack.get("flags") or {}) if attack is not None else {}
    return [marked(number_cell(value), DOUBTFUL if doubts else ""), _change(value, clean)]


def _change(value: float | None, clean: float | None) -> Cell:
    return change_cell(None if value is None or clean is None else decline_of(clean, value))


def _carries_table(carries: Mapping[str, Mapping[str, float]]) -> Table:
    columns = [Column("Modality"), *(Column(label, kind="value") for label in _CARRIES.values())]
    cells: list[list[Cell]] = []
    for modality, values in carries.items():
        numbers = [values.get(name) for name in _CARRIES]
        shown = [text_cell(NOT_APPLICABLE) if value is None else number_cell(value) for value in numbers]
        cells.append([text_cell(modality), *shown])
    note = (
        "Recall on clean features, validation items not masked: with every item's features replaced by their mean, "
        "with the items' features dealt out anew, and of parts of the score alone."
    )
    return Table.from_cells("What each modality carries", columns, cells, [note])


def _flags(attacks: Sequence[tuple[Setting, dict[str, Any]]]) -> tuple[list[str], bool]:
    found: dict[str, dict[str, str]] = {}
    counts: Counter[str] = Counter()
    for setting, attack in sorted(attacks, key=lambda pair: pair[0].order):
        for name, text in (attack.get("flags") or {}).items():
            counts[name] += 1
            found.setdefault(name, {}).setdefault(text, setting.label)
    doubts = doubts_of(dict.fromkeys(found, ""))
    told = []
    for name, texts in found.items():
        examples = "; ".join(f"{text} ({label})" for text, label in list(texts.items())[:_EXAMPLES])
        where = f"{counts[name]} of {len(attacks)} attacks"
        told.append(f"{DOUBTFUL + ' ' if name in doubts else ''}{name}, under {where}: {examples}")
    return told, bool(doubts)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
