"""Tables of results, and their forms as Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Literal

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting.entries import Entry, best_validation
from mmgraph_robust.reporting.settings import Setting, format_budget
from mmgraph_robust.reporting.summary import NOT_ATTACKABLE, Row, as_rows, check_metric, choose_settings, defense_order

MISSING = "\N{EN DASH}"
NOT_APPLICABLE = "n/a"
DOUBTFUL = "\N{DAGGER}"
Cell = tuple[str, "float | None", "float | None"]


@dataclass(frozen=True)
class Column:
    """Heading of a column.

    Args:
        label: What the column holds.
        group: What it has in common with its neighbours, shown above them.
        kind: ``"text"``, ``"value"`` (a number) or ``"change"`` (per cent, negative for a loss).
    """

    label: str
    group: str = ""
    kind: Literal["text", "value", "change"] = "text"

    @property
    def name(self) -> str:
        """Group and label in one line."""
        return f"{self.group}: {self.label}" if self.group else self.label


@dataclass(frozen=True)
class Table:
    """What every form of a table is made from.

    Args:
        title: What the table shows.
        columns: Its headings.
        rows: The cells as people read them.
        values: The cells' numbers, `None` for text and for what is missing.
        deviations: The numbers' standard deviations over seeds, `None` where unknown.
        notes: Sentences to be read with the table.

    Raises:
        ConfigError: If a row has not as many cells as there are columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[tuple[float | None, ...], ...]
    deviations: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({len(self.rows), len(self.values), len(self.deviations)}) > 1:
            raise ConfigError("a table expects as many rows of numbers as of text")
        for row in (*self.rows, *self.values, *self.deviations):
            if len(row) != len(self.columns):
                raise ConfigError(f"a table of {len(self.columns)} columns expects as many cells (got {len(row)})")

    @classmethod
    def from_cells(
        cls, title: str, columns: Sequence[Column], cells: Sequence[Sequence[Cell]], notes: Sequence[str] = ()
    ) -> Table:
        """A table from rows of (text, number, standard deviation)."""
        texts = tuple(tuple(cell[0] for cell in row) for row in cells)
        values = tuple(tuple(cell[1] for cell in row) for row in cells)
        deviations = tuple(tuple(cell[2] for cell in row) for row in cells)
        return cls(title, tuple(columns), texts, values, deviations, tuple(notes))


# --- cells ------------------------------------------------------------------------------------------------------------


def metric_label(metric: str) -> str:
    """The name of a metric as papers print it: ``ndcg@20`` becomes ``NDCG@20``."""
    name, at, k = metric.partition("@")
    special = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hit_rate": "Hit rate", "auc": "AUC"}
    return special.get(name, name.replace("_", " ").capitalize()) + at + k


def format_change(value: float, std: float | None = None) -> str:
    """A change in per cent with its sign, and its spread where that is known."""
    number = f"{value:+.1f}"
    # A change that rounds to nothing has no direction.
    number = "0.0" if number in ("+0.0", "-0.0") else number.replace("-", "\N{MINUS SIGN}")
    return f"{number} %" if std is None else f"{number} ± {std:.1f} %"


def _text(text: str) -> Cell:
    return text, None, None


def _number(value: float | None, std: float | None = None, digits: int = 4) -> Cell:
    if value is None:
        return MISSING, None, None
    text = f"{value:.{digits}f}" if std is None else f"{value:.{digits}f} ± {std:.{digits}f}"
    return text, value, std


def _change(value: float | None, std: float | None = None) -> Cell:
    return (MISSING, None, None) if value is None else (format_change(value, std), value, std)


def _value_cell(row: Row | None, metric: str) -> Cell:
    return _number(None) if row is None else _marked(row, _number(row.mean.get(metric), row.std.get(metric)))


def _change_cell(row: Row | None, metric: str) -> Cell:
    return _change(None) if row is None else _marked(row, _change(row.decline.get(metric), row.decline_std.get(metric)))


def _marked(row: Row, cell: Cell) -> Cell:
    return (f"{cell[0]} {DOUBTFUL}", *cell[1:]) if row.doubts else cell


def doubt_notes(rows: Sequence[Row]) -> list[str]:
    """Why marked numbers are not to be trusted: one note per model, defense and flag, with the attacks that raised it.

    Args:
        rows: Summarised results.
    """
    found: dict[tuple[str, str, str], tuple[str, list[str]]] = {}
    for row in rows:
        if row.setting is None:
            continue
        for name, text in row.doubts.items():
            found.setdefault((row.model, row.defense, name), (text, []))[1].append(row.setting.label)
    return [
        f"{DOUBTFUL} not to be trusted as it stands: {model} with defense {defense} under {'; '.join(labels)}: {name}, "
        f"{text}."
        for (model, defense, name), (text, labels) in found.items()
    ]


def _model(name: str, feature_path: str) -> str:
    return f"{name} ({NOT_ATTACKABLE})" if feature_path == "none" else name


# --- the tables -------------------------------------------------------------------------------------------------------


def headline(
    results: Sequence[Entry] | Sequence[Row],
    metric: str = "recall@20",
    *,
    settings: Sequence[Setting] | None = None,
    max_settings: int = 3,
) -> Table:
    """The table that a newcomer understands: a line per defense, clean and under attack.

    Args:
        results: Result entries, or their summary.
        metric: The metric that is shown.
        settings: The attacks that are shown (default: all if there are at most `max_settings`, else the strongest on
            each set of modalities at its lowest budget).
        max_settings: How many settings count as few.

    Raises:
        ConfigError: If no row has the metric, or a setting was not run.
        DataError: If there are no rows.
    """
    rows = as_rows(results)
    check_metric(rows, metric)
    known = sorted({row.setting for row in rows if row.setting is not None}, key=lambda setting: setting.order)
    notes = []
    if settings is None:
        settings = known if len(known) <= max_settings else choose_settings(rows, metric)
        if len(settings) < len(known):
            notes.append(
                f"Shown is, for each attacked modality, the strongest attack at the smallest budget; "
                f"{len(known) - len(settings)} further settings are in the full results."
            )
            notes += _stronger_elsewhere(rows, settings, metric)
    else:
        for setting in settings:
            if setting not in known:
                listed = "; ".join(s.label for s in known) or "none"
                raise ConfigError(f"no result for '{setting.label}' (known: {listed})")
    label = metric_label(metric)
    datasets = sorted({row.dataset for row in rows})
    columns = [Column("Data set")] if len(datasets) > 1 else []
    columns += [Column("Model"), Column("Defense"), Column(label, "Clean", "value")]
    # What all columns share is said once, below.
    threats = {setting.threat for setting in settings}
    if len(threats) == 1:
        notes.append(f"Budgets are {threats.pop()}, relative to the size of the features.")
    for setting in settings:
        name = setting.label if threats else setting.short
        columns += [Column(label, name, "value"), Column("change", name, "change")]
    cells, seeds, partial = [], set(), []
    for clean, attacked in _lines(rows):
        line = [_text(clean.dataset)] if len(datasets) > 1 else []
        line += [_text(_model(clean.model, clean.feature_path)), _text(clean.defense), _value_cell(clean, metric)]
        seeds.add(clean.seeds)
        for setting in settings:
            row = attacked.get(setting)
            if clean.feature_path == "none":
                line += [_text(NOT_APPLICABLE)] * 2
                continue
            line += [_value_cell(row, metric), _change_cell(row, metric)]
            if row is not None and row.seeds < clean.seeds:
                where = f"{clean.model} with defense {clean.defense}"
                partial.append(f"{setting.label} ran on {row.seeds} of {clean.seeds} seeds of {where}.")
        cells.append(line)
    shown = [row for _, attacked in _lines(rows) for setting, row in attacked.items() if setting in settings]
    notes += [*_seed_notes(seeds), *partial, *_path_notes(rows), *doubt_notes(shown)]
    title = f"{', '.join(datasets)}: {label} on clean and on attacked features"
    return Table.from_cells(title, columns, cells, notes)


def _lines(rows: Sequence[Row]) -> list[tuple[Row, dict[Setting, Row]]]:
    clean = sorted((row for row in rows if row.attack is None), key=lambda row: row.order)
    attacked: dict[tuple[str, str, str], dict[Setting, Row]] = {}
    for row in rows:
        if row.setting is not None:
            attacked.setdefault(row.line, {})[row.setting] = row
    return [(row, attacked.get(row.line, {})) for row in clean]


def _seed_notes(seeds: set[int]) -> list[str]:
    if not seeds:
        return []
    if seeds == {1}:
        return ["One seed each: there is no ±, and small differences may be chance."]
    count = str(max(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return [f"Mean ± sample standard deviation over {count} seeds."]


def _path_notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    immune = sorted({row.model for row in rows if row.feature_path == "none"})
    if immune:
        notes.append(f"No item feature reaches the score of {', '.join(immune)}: a yardstick, not a robust model.")
    graph = sorted({row.model for row in rows if row.feature_path == "graph"})
    if graph:
        notes.append(
            f"In {', '.join(graph)} features act only through the item graph; where that graph is frozen "
            "before the attack, a small change says nothing about robustness."
        )
    return notes


def _stronger_elsewhere(rows: Sequence[Row], settings: Sequence[Setting], metric: str) -> list[str]:
    # One attack heads a column, yet a defense may merely hide its gradient from that very attack.
    notes = []
    for clean, attacked in _lines(rows):
        for shown in settings if clean.feature_path != "none" else ():
            reference = attacked[shown].decline.get(metric) if shown in attacked else None
            rivals = [
                (row.decline[metric], setting)
                for setting, row in attacked.items()
                if (setting.modalities, setting.budget) == (shown.modalities, shown.budget)
                and row.decline.get(metric) is not None
            ]
            if reference is None or not rivals:
                continue
            worst, rival = min(rivals, key=lambda pair: (pair[0], pair[1].order))
            if worst is not None and worst < reference - 0.1:
                notes.append(
                    f"{clean.model} with defense {clean.defense} loses more under {rival.label} "
                    f"({format_change(worst)}) than under the attack shown ({format_change(reference)})."
                )
    return notes


def full(results: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> Table:
    """Every metric of every setting.

    Args:
        results: Result entries, or their summary.
        metric: The metric that comes first.

    Raises:
        ConfigError: If no result has the metric.
        DataError: If there are no results.
    """
    rows = as_rows(results)
    check_metric(rows, metric)
    metrics = list(dict.fromkeys([metric, *sorted(name for row in rows for name in row.mean)]))
    names = ("Data set", "Model", "Defense", "Attack", "Modalities", "Budget", "Scope", "Norm", "Feature path")
    columns = [*(Column(name) for name in names), Column("Seeds", kind="value")]
    for metric in metrics:
        columns.append(Column("mean", metric_label(metric), "value"))
        columns.append(Column("change", metric_label(metric), "change"))
    cells = []
    for row in sorted(rows, key=lambda row: row.order):
        clean = row.attack is None
        texts = [*row.line, row.attack or "clean", "+".join(row.modalities) or MISSING]
        texts += [MISSING if clean else format_budget(row.budget), row.scope or MISSING, row.norm or MISSING]
        line = [*(_text(text) for text in (*texts, row.feature_path)), _number(row.seeds, digits=0)]
        for metric in metrics:
            line.append(_value_cell(row, metric))
            # An unchanged score of a model that reads no features is no achievement to be shown.
            immune = row.feature_path == "none" and not clean
            line.append(_text(NOT_APPLICABLE) if immune else _change_cell(row, metric))
        cells.append(line)
    return Table.from_cells("All results", columns, cells, [*_path_notes(rows), *doubt_notes(rows)])


def sensitive_table(entries: Sequence[Entry]) -> Table:
    """Which modality suffers most, by margin and by metric, with the number of seeds that agree.

    Args:
        entries: Result entries.
    """
    columns = [Column(name) for name in ("Data set", "Model", "Defense", "by score margin", "by ranking metric")]
    cells, notes = [], []
    for line, group in _grouped(entries):
        if group[0]["feature_path"] == "none":
            cells.append([_text(line[0]), _text(_model(line[1], "none")), _text(line[2]), *[_text(NOT_APPLICABLE)] * 2])
            continue
        found = [entry.get("sensitive") or {} for entry in group]
        votes = {
            key: Counter(str(part[key]) for part in found if part.get(key) is not None)
            for key in ("by_margin", "by_metric")
        }
        if not any(votes.values()):
            continue
        cells.append([*map(_text, line), *(_text(_votes(votes[key], len(group))) for key in votes)])
        first = [count.most_common(1)[0][0] for count in votes.values() if count]
        if len(set(first)) > 1:
            notes.append(f"{line[1]} with defense {line[2]} on {line[0]}: the two rules disagree; protect with care.")
    return Table.from_cells("The sensitive modality", columns, cells, notes)


def _votes(votes: Counter[str], seeds: int) -> str:
    ranked = sorted(votes.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) == 1 and ranked[0][1] == seeds:
        return ranked[0][0]
    return ", ".join(f"{name} ({count} of {seeds} seeds)" for name, count in ranked) or MISSING


def training_table(entries: Sequence[Entry]) -> Table:
    """Epochs, seconds and the best validation value of each training run, averaged over seeds.

    Args:
        entries: Result entries.
    """
    columns = [Column("Data set"), Column("Model"), Column("Defense"), Column("Monitor"), Column("Seeds", kind="value")]
    columns += [Column(name, kind="value") for name in ("Epochs", "Best epoch", "Best validation", "Seconds")]
    cells = []
    for line, group in _grouped(entries):
        runs = [entry["training"] for entry in group]
        monitors = sorted({metric_label(run["monitor"]) for run in runs if run.get("monitor")})
        numbers = []
        for key, digits in (("epochs", 1), ("best_epoch", 1), ("best_validation", 4), ("seconds", 1)):
            found = [best_validation(run) if key == "best_validation" else run[key] for run in runs]
            known = [float(value) for value in found if value is not None]
            numbers.append(_number(fmean(known) if known else None, digits=digits))
        cells.append([*map(_text, (*line, ", ".join(monitors) or MISSING)), _number(len(group), digits=0), *numbers])
    return Table.from_cells("Training", columns, cells, ["Means over seeds; seconds are wall time."])


def _grouped(entries: Sequence[Entry]) -> list[tuple[tuple[str, str, str], list[Entry]]]:
    def key(entry: Entry) -> tuple[object, ...]:
        order = defense_order(entry["defense"])
        return entry["dataset"], entry["feature_path"] == "none", entry["model"], *order, entry["seed"]

    def line(entry: Entry) -> tuple[str, str, str]:
        return entry["dataset"], entry["model"], entry["defense"]

    return [(name, list(group)) for name, group in groupby(sorted(entries, key=key), key=line)]


# --- forms ------------------------------------------------------------------------------------------------------------


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, with its title and notes.

    Args:
        table: The table.
    """
    lines = [f"**{_escape_markdown(table.title)}**", ""]
    lines.append("| " + " | ".join(_escape_markdown(column.name) for column in table.columns) + " |")
    lines.append("|" + "|".join("---" if column.kind == "text" else "---:" for column in table.columns) + "|")
    lines += ["| " + " | ".join(map(_escape_markdown, row)) + " |" for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {_escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    text = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\|`*_[]":
        text = text.replace(mark, "\\" + mark)
    return text


def to_csv(table: Table) -> str:
    """The table's numbers in full precision, with a column for each standard deviation that is known.

    Args:
        table: The table.
    """
    spread = [any(row[k] is not None for row in table.deviations) for k in range(len(table.columns))]
    header: list[str] = []
    for column, wanted in zip(table.columns, spread, strict=True):
        header += [column.name, f"{column.name} std"] if wanted else [column.name]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for texts, values, deviations in zip(table.rows, table.values, table.deviations, strict=True):
        line: list[str | float | None] = []
        for k, column in enumerate(table.columns):
            line.append(texts[k] if column.kind == "text" else values[k])
            if spread[k]:
                line.append(deviations[k])
        writer.writerow(line)
    return buffer.getvalue()


def to_html(table: Table) -> str:
    """The table as HTML in a box that scrolls on narrow screens; all text is escaped.

    Args:
        table: The table.
    """
    leading = next((k for k, column in enumerate(table.columns) if column.kind != "text"), 1)
    body = []
    for texts, values in zip(table.rows, table.values, strict=True):
        cells = []
        for k, (column, text) in enumerate(zip(table.columns, texts, strict=True)):
            if k < leading:
                cells.append(f'<th scope="row">{html.escape(text)}</th>')
            else:
                cells.append(f'<td class="{_html_class(column, values[k])}">{html.escape(text)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{html.escape(table.title)}">\n<table>\n'
        f"<caption>{html.escape(table.title)}</caption>\n<thead>{_html_head(table)}</thead>\n"
        "<tbody>\n"
        + "\n".join(body)
        + "\n</tbody>\n</table>\n</div>\n"
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
    )


def _html_class(column: Column, value: float | None) -> str:
    if column.kind == "text":
        return "text"
    if column.kind == "value" or value is None or abs(value) < 0.05:
        return "number"
    return "number loss" if value < 0 else "number gain"


def _html_head(table: Table) -> str:
    def cell(column: Column, attributes: str = "") -> str:
        kind = "text" if column.kind == "text" else "number"
        return f'<th scope="col" class="{kind}"{attributes}>{html.escape(column.label)}</th>'

    if not any(column.group for column in table.columns):
        return f"<tr>{''.join(cell(column) for column in table.columns)}</tr>"
    top, bottom = [], []
    for group, members in groupby(table.columns, key=lambda column: column.group):
        columns = list(members)
        if group:
            top.append(f'<th scope="colgroup" class="group" colspan="{len(columns)}">{html.escape(group)}</th>')
            bottom += [cell(column) for column in columns]
        else:
            top += [cell(column, ' rowspan="2"') for column in columns]
    return f"<tr>{''.join(top)}</tr><tr>{''.join(bottom)}</tr>"
