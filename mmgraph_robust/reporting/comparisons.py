"""Every defense against no defense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.reporting.cells import (
    DOUBTFUL,
    Cell,
    Column,
    Table,
    difference_cell,
    marked,
    metric_label,
    number_cell,
    text_cell,
)
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.kept_tests import KeptTests
from mmgraph_robust.reporting.pairing import LEVEL, Comparison, judged, pair_up, parts_of, setting_order
from mmgraph_robust.reporting.settings import Setting, attacks_of, notes_on_terms
from mmgraph_robust.reporting.summary import by_line, choose_settings, summarize, undefended_lines
from mmgraph_robust.reporting.tables import MAX_SETTINGS, doubt_notes, pick_settings


def comparisons(
    entries: Sequence[Entry],
    metric: str = "recall@20",
    *,
    settings: Iterable[Setting] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    known: KeptTests | None = None,
) -> list[Comparison]:
    """Every defense against no defense: the same model, data set, setting, seeds and users.

    Values are averaged over the seeds that both have, for each user, and tested by a paired bootstrap over users
    (:func:`~mmgraph_robust.reporting.statistics.paired_bootstrap`). One data set and one setting make a family; its
    p-values are corrected by Holm. A model that was not run without a defense has no comparison; one whose entries hold
    no values per user is compared, but not tested.

    Args:
        entries: Result entries.
        metric: The metric; it must be among the entries' ``per_user`` for a test.
        settings: The attacks (default: all). Clean features are always compared.
        resamples: Number of draws; families of more than 250 get up to 20 000.
        seed: Seed of the draws.
        known: Tests that were made while the values per user were there (:func:`read_tests`).

    Raises:
        CheckpointError: If an entry is incomplete or occurs twice, or a data set's entries come from different data.
        ConfigError: If no entry has the metric, or an option is out of range.
    """
    groups = by_line(entries)
    metrics = {name for entry in entries for name in entry["clean"]["metrics"]}
    if groups and metric not in metrics:
        raise ConfigError(unknown_name("metric", metric, metrics))
    wanted = None if settings is None else set(settings)
    among = attacks_of(entries)
    pairs = []
    bare = {line[:2]: line for line in undefended_lines(entries)}
    for line in sorted(groups):
        reference = bare.get(line[:2])
        if reference is None or line == reference:
            continue
        base = groups[reference]
        ours, theirs = parts_of(base, metric, among), parts_of(groups[line], metric, among)
        for setting in sorted(ours.keys() & theirs.keys(), key=setting_order):
            if setting is None or wanted is None or setting in wanted:
                both = ours[setting], theirs[setting]
                pairs.append(pair_up(line, setting, *both, metric, "without a defense", known))
    return judged(pairs, lambda c: (c.dataset, c.setting), resamples=resamples, seed=seed)


def shown_comparisons(
    entries: Sequence[Entry], metric: str = "recall@20", known: KeptTests | None = None
) -> list[Comparison]:
    """:func:`comparisons` on clean features and under the attacks that tables and the page show.

    Args:
        entries: Result entries.
        metric: The metric.
        known: See :func:`comparisons`.
    """
    rows = summarize(entries)
    shown = {*pick_settings(rows, metric, None, MAX_SETTINGS)[0], *choose_settings(rows, metric)}
    return comparisons(entries, metric, settings=shown, known=known)


def comparison_table(
    compared: Sequence[Comparison],
    metric: str = "recall@20",
    *,
    title: str = "Each defense against none",
    names: tuple[str, str] = ("without", "with"),
    words: Mapping[str, str] | None = None,
) -> Table:
    """Comparisons with their intervals, p-values and verdicts.

    Args:
        compared: The comparisons.
        metric: Their metric.
        title: Title of the table.
        names: What to call the two measurements.
        words: Other words for verdicts.
    """
    label = metric_label(metric)
    columns = [Column(name) for name in ("Data set", "Model", "Defense", "Setting")]
    columns += [Column(name, label, "value") for name in (*names, "difference")]
    columns += [Column("low", "95 % interval", "value"), Column("high", "95 % interval", "value")]
    columns += [Column("p", kind="value"), Column("p corrected", kind="value"), Column("Seeds", kind="value")]
    columns += [Column("Seeds that agree", kind="value"), Column("Verdict")]
    cells = []
    for one in compared:
        setting = "clean" if one.setting is None else one.setting.label
        line = [*map(text_cell, (one.dataset, one.model, one.defense, setting))]
        line += [number_cell(one.before), number_cell(one.after), difference_cell(one.difference)]
        low, high, p = (one.test.low, one.test.high, one.test.p) if one.test else (None, None, None)
        line += [difference_cell(low), difference_cell(high), _p_cell(p), _p_cell(one.corrected)]
        line += [number_cell(len(one.seeds), digits=0), number_cell(_agreeing(one), digits=0)]
        word = (words or {}).get(one.verdict, one.verdict)
        cells.append([*line, marked(text_cell(word), DOUBTFUL if one.doubts else "")])
    terms = notes_on_terms(one.setting for one in compared if one.setting is not None)
    return Table.from_cells(title, columns, cells, [*notes_on_tests(compared), *terms, *doubt_notes(compared)])


def _p_cell(p: float | None) -> Cell:
    return ("< 0.0001", p, None) if p is not None and p < 0.0001 else number_cell(p)


def _agreeing(one: Comparison) -> int | None:
    """In how many seeds the difference has the sign of its mean."""
    return sum(value * one.difference > 0 for value in one.by_seed) if one.difference and one.seeds else None


def notes_on_tests(compared: Sequence[Comparison]) -> list[str]:
    """How it was tested, what was not tested and why, and what the tests cannot know.

    Args:
        compared: The comparisons.
    """
    notes = []
    if any(one.test for one in compared):
        notes.append(
            "Users were drawn anew, each with both of her values, averaged over seeds. Intervals hold for each "
            "difference alone; a p-value that no draw reaches is the tail of Student's t (normal for many users); "
            f"p-values are corrected for their number (Holm), and count below {LEVEL:g}."
        )
        few = min(len(one.seeds) for one in compared if one.test)
        if few < 3:
            notes.append(
                f"With {few} seed{'s' if few > 1 else ''}, a difference may be the luck of a training, which no test "
                "over users knows of."
            )
    reasons: dict[str, list[str]] = {}
    for one in compared:
        if one.untested:
            reasons.setdefault(one.untested, []).append(one.name)
    for reason, names in reasons.items():
        listed = "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
        notes.append(f"Not tested, only means can be compared ({reason}): {listed}.")
    return notes
