"""The table of all models and defenses, with what chance allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmgraph_robust.reporting.cells import DOUBTFUL, Cell, Table, change_cell, marked, number_cell
from mmgraph_robust.reporting.comparisons import comparisons, notes_on_tests
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.pairing import Comparison
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.statistics import half_width
from mmgraph_robust.reporting.summary import Row, summarize
from mmgraph_robust.reporting.tables import MAX_SETTINGS, board, pick_settings

MARKS = {"better": "\N{BLACK UP-POINTING TRIANGLE}", "worse": "\N{BLACK DOWN-POINTING TRIANGLE}"}


def leaderboard(
    entries: Sequence[Entry],
    metric: str = "recall@20",
    *,
    settings: Sequence[Setting] | None = None,
    max_settings: int = MAX_SETTINGS,
    compared: Sequence[Comparison] | None = None,
) -> Table:
    """A line per data set, model and defense, as in :func:`headline`, with intervals and marks.

    Behind ± stands half the width of the 95 % confidence interval over seeds, and a mark where a comparison with the
    same model without a defense shows a difference. The table's deviations are standard deviations, as everywhere.

    Args:
        entries: Result entries.
        metric: The metric.
        settings: See :func:`headline`.
        max_settings: See :func:`headline`.
        compared: What :func:`comparisons` returned for these entries and this metric (default: it is called, for the
            settings that are shown).

    Raises:
        CheckpointError: If an entry is incomplete or occurs twice, or a data set's entries come from different data.
        ConfigError: If no entry has the metric, or a setting was not run.
        DataError: If there are no entries.
    """
    rows = summarize(entries)
    settings, notes = pick_settings(rows, metric, settings, max_settings)
    if compared is None:
        compared = comparisons(entries, metric, settings=settings)
    compared = [one for one in compared if one.setting is None or one.setting in settings]
    # No verdict on a number that a check contradicts, be it the other one's.
    judged = [one for one in compared if not one.doubts]
    marks = {(one.dataset, one.model, one.defense, one.setting): MARKS.get(one.verdict, "") for one in judged}

    def value(row: Row | None, metric: str) -> Cell:
        if row is None:
            return number_cell(None)
        cell = _with_interval(number_cell, row, row.mean.get(metric), row.std.get(metric))
        return marked(marked(cell, marks.get((*row.line, row.setting), "")), DOUBTFUL if row.doubts else "")

    def change(row: Row | None, metric: str) -> Cell:
        if row is None:
            return change_cell(None)
        cell = _with_interval(change_cell, row, row.decline.get(metric), row.decline_std.get(metric))
        return marked(cell, DOUBTFUL if row.doubts else "")

    if any(row.seeds > 1 for row in rows):
        notes.append("± is half the width of the 95 % confidence interval of the mean over seeds (Student's t).")
    if any(row.seeds == 1 for row in rows):
        notes.append("Where there is one seed, there is no ±, and small differences may be chance.")
    if any(one.test for one in compared):
        notes.append(
            f"{MARKS['better']} better, {MARKS['worse']} worse than the same model without a defense on the same "
            "features; without a mark, no difference was shown, or one of the two numbers is marked "
            f"{DOUBTFUL}."
        )
    return board(rows, metric, settings, value, change, [*notes, *notes_on_tests(compared)], seeds_column=True)


def _with_interval(
    form: Callable[[float | None, float | None], Cell], row: Row, value: float | None, std: float | None
) -> Cell:
    return form(value, half_width(std, row.seeds))[0], value, None if value is None else std
