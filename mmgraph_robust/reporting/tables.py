"""Tables of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Protocol

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting.cells import (
    DOUBTFUL,
    MISSING,
    NOT_APPLICABLE,
    Cell,
    Column,
    Table,
    change_cell,
    format_change,
    marked,
    metric_label,
    number_cell,
    text_cell,
)
from mmgraph_robust.reporting.entries import Entry, best_validation
from mmgraph_robust.reporting.settings import Setting, notes_on_terms
from mmgraph_robust.reporting.summary import (
    NOT_ATTACKABLE,
    Row,
    as_rows,
    check_metric,
    choose_settings,
    defense_order,
    over_shared_seeds,
    which_seeds,
)

#: How many settings a table shows before it takes the strongest only.
MAX_SETTINGS = 3

# --- what tables share ------------------------------------------------------------------------------------------------


def _value_cell(row: Row | None, metric: str) -> Cell:
    return number_cell(None) if row is None else _doubted(row, number_cell(row.mean.get(metric), row.std.get(metric)))


def _change_cell(row: Row | None, metric: str) -> Cell:
    if row is None:
        return change_cell(None)
    return _doubted(row, change_cell(row.decline.get(metric), row.decline_std.get(metric)))


def _doubted(row: Row, cell: Cell) -> Cell:
    return marked(cell, DOUBTFUL if row.doubts else "")


class Doubtful(Protocol):
    """What may carry flags."""

    @property
    def dataset(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def defense(self) -> str: ...
    @property
    def setting(self) -> Setting | None: ...
    @property
    def doubts(self) -> Mapping[str, str]: ...


def doubt_notes(rows: Sequence[Doubtful]) -> list[str]:
    """Why marked numbers are not to be trusted: one note per model, defense and flag, with the attacks that raised it.

    Args:
        rows: Summarised results, or comparisons of them.
    """
    found: dict[tuple[str, str], tuple[str, list[str]]] = {}
    several = len({row.dataset for row in rows}) > 1
    for row in rows:
        if row.setting is None:
            continue
        for name, text in row.doubts.items():
            found.setdefault((_who(row, several), name), (text, []))[1].append(row.setting.label)
    return [
        f"{DOUBTFUL} not to be trusted as it stands: {who} under {'; '.join(labels)}: {name}, {text}."
        for (who, name), (text, labels) in found.items()
    ]


def _who(row: Doubtful, several: bool) -> str:
    """A line in words, with its data set where there are several."""
    return f"{row.model} with defense {row.defense}" + (f" on {row.dataset}" if several else "")


def _model(name: str, feature_path: str) -> str:
    return f"{name} ({NOT_ATTACKABLE})" if feature_path == "none" else name


# --- the tables -------------------------------------------------------------------------------------------------------


def headline(
    results: Sequence[Entry] | Sequence[Row],
    metric: str = "recall@20",
    *,
    settings: Sequence[Setting] | None = None,
    max_settings: int = MAX_SETTINGS,
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
    settings, notes = pick_settings(rows, metric, settings, max_settings)
    seeds = {row.seeds for row in rows if row.attack is None}
    return board(rows, metric, settings, _value_cell, _change_cell, [*notes, *_seed_notes(seeds)])


def pick_settings(
    rows: Sequence[Row], metric: str, settings: Sequence[Setting] | None, max_settings: int
) -> tuple[list[Setting], list[str]]:
    """The settings that a table shows, and what is to be said about the others; see :func:`headline`."""
    check_metric(rows, metric)
    known = sorted({row.setting for row in rows if row.setting is not None}, key=lambda setting: setting.order)
    for setting in settings or ():
        if setting not in known:
            listed = "; ".join(s.label for s in known) or "none"
            raise ConfigError(f"no result for '{setting.label}' (known: {listed})")
    if settings is not None:
        # As they were run, with their terms.
        settings = [known[known.index(setting)] for setting in settings]
    notes = []
    if settings is None:
        settings = known if len(known) <= max_settings else choose_settings(rows, metric)
        if len(settings) < len(known):
            notes.append(
                f"Shown is, for each attacked modality, the strongest attack at the smallest budget; "
                f"{len(known) - len(settings)} further settings are in the full results."
            )
            notes += _stronger_elsewhere(rows, settings, metric)
    # What all columns share is said once.
    if _of_one_threat(settings):
        unit = "relative to the size of the features" if settings[0].relative else "in the unit of the features"
        notes.append(f"Budgets are {settings[0].threat}, {unit}.")
    return list(settings), [*notes, *notes_on_terms(settings)]


def _of_one_threat(settings: Sequence[Setting]) -> bool:
    return len({setting.threat for setting in settings}) == 1


def board(
    rows: Sequence[Row],
    metric: str,
    settings: Sequence[Setting],
    value: Callable[[Row | None, str], Cell],
    change: Callable[[Row | None, str], Cell],
    notes: Sequence[str],
    seeds_column: bool = False,
) -> Table:
    """A line per data set, model and defense: its metric clean and in each setting, and what it changes by there.

    Args:
        rows: Summarised results.
        metric: The metric.
        settings: The settings.
        value: Makes the cell of the metric of a row.
        change: Makes the cell of the row's decline.
        notes: What is to be said first.
        seeds_column: Whether the number of seeds is shown.
    """
    label = metric_label(metric)
    datasets = sorted({row.dataset for row in rows})
    columns = [Column("Data set")] if len(datasets) > 1 else []
    columns += [Column("Model"), Column("Defense")]
    columns += [Column("Seeds", kind="value")] if seeds_column else []
    columns.append(Column(label, "Clean", "value"))
    for setting in settings:
        name = setting.short if _of_one_threat(settings) else setting.label
        columns += [Column(label, name, "value"), Column("change", name, "change")]
    cells, partial = [], []
    for clean, attacked in _lines(rows):
        line = [text_cell(clean.dataset)] if len(datasets) > 1 else []
        line += [text_cell(_model(clean.model, clean.feature_path)), text_cell(clean.defense)]
        line += [number_cell(clean.seeds, digits=0)] if seeds_column else []
        line.append(value(clean, metric))
        for setting in settings:
            row = attacked.get(setting)
            if clean.feature_path == "none":
                line += [text_cell(NOT_APPLICABLE)] * 2
                continue
            line += [value(row, metric), change(row, metric)]
            if row is not None and row.seeds < clean.seeds:
                where = _who(clean, len(datasets) > 1)
                partial.append(f"{setting.label} ran on {row.seeds} of {clean.seeds} seeds of {where}.")
        cells.append(line)
    shown = [row for _, attacked in _lines(rows) for setting, row in attacked.items() if setting in settings]
    said = [*notes, *partial, *_path_notes(rows), *doubt_notes(shown)]
    title = f"{', '.join(datasets)}: {label} on clean and on attacked features"
    return Table.from_cells(title, columns, cells, said)


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
    # One attack heads a column, yet a defense may merely hide its gradient from that very attack. Only what is of the
    # same threat is a rival: a budget of the whole matrix is often harsher than the same one per item.
    notes = []
    several = len({row.dataset for row in rows}) > 1
    for clean, attacked in _lines(rows):
        for shown in settings if clean.feature_path != "none" else ():
            if shown not in attacked:
                continue
            rivals = []
            for setting, row in attacked.items():
                rows_of_both = [attacked[shown], row]
                both = over_shared_seeds(rows_of_both) if setting.is_like(shown) else []
                reference, its = (one.decline.get(metric) for one in both) if both else (None, None)
                if reference is not None and its is not None and its < reference - 0.1:
                    rivals.append((its, setting.order, reference, setting, which_seeds(both, rows_of_both)))
            if rivals:
                worst, _, reference, rival, seeds = min(rivals, key=lambda found: found[:2])
                notes.append(
                    f"{_who(clean, several)} loses more under {rival.label} ({format_change(worst)}) than under the "
                    f"attack shown ({format_change(reference)}){f', {seeds}' if seeds else ''}."
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
        setting = row.setting
        texts = [*row.line, row.attack or "clean", "+".join(row.modalities) or MISSING]
        texts += [MISSING] * 3 if setting is None else [setting.size, setting.scope, setting.norm]
        line = [*(text_cell(text) for text in (*texts, row.feature_path)), number_cell(row.seeds, digits=0)]
        for metric in metrics:
            line.append(_value_cell(row, metric))
            # An unchanged score of a model that reads no features is no achievement to be shown.
            immune = row.feature_path == "none" and setting is not None
            line.append(text_cell(NOT_APPLICABLE) if immune else _change_cell(row, metric))
        cells.append(line)
    terms = notes_on_terms(row.setting for row in rows if row.setting is not None)
    return Table.from_cells("All results", columns, cells, [*terms, *_path_notes(rows), *doubt_notes(rows)])


def sensitive_table(entries: Sequence[Entry]) -> Table:
    """Which modality suffers most, by margin and by metric, with the number of seeds that agree.

    Args:
        entries: Result entries.
    """
    columns = [Column(name) for name in ("Data set", "Model", "Defense", "by score margin", "by ranking metric")]
    cells, notes = [], []
    for line, group in _grouped(entries):
        if group[0]["feature_path"] == "none":
            name = _model(line[1], "none")
            cells.append([*map(text_cell, (line[0], name, line[2], NOT_APPLICABLE, NOT_APPLICABLE))])
            continue
        found = [entry.get("sensitive") or {} for entry in group]
        votes = {
            key: Counter(str(part[key]) for part in found if part.get(key) is not None)
            for key in ("by_margin", "by_metric")
        }
        if not any(votes.values()):
            continue
        cells.append([*map(text_cell, line), *(text_cell(_votes(votes[key], len(group))) for key in votes)])
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
            numbers.append(number_cell(fmean(known) if known else None, digits=digits))
        texts = [*line, ", ".join(monitors) or MISSING]
        cells.append([*map(text_cell, texts), number_cell(len(group), digits=0), *numbers])
    return Table.from_cells("Training", columns, cells, ["Means over seeds; seconds are wall time."])


def _grouped(entries: Sequence[Entry]) -> list[tuple[tuple[str, str, str], list[Entry]]]:
    def key(entry: Entry) -> tuple[object, ...]:
        path = entry["feature_path"] == "none"
        return entry["dataset"], path, entry["model"], *defense_order(entry), entry["seed"]

    def line(entry: Entry) -> tuple[str, str, str]:
        return entry["dataset"], entry["model"], entry["defense"]

    return [(name, list(group)) for name, group in groupby(sorted(entries, key=key), key=line)]
