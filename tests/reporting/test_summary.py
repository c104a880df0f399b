"""Reading, checking and summarising result entries."""

from __future__ import annotations

import copy
import math

import pytest

from mmgraph_robust.errors import CheckpointError, DataError
from mmgraph_robust.reporting import (
    Row,
    check_entry,
    choose_settings,
    comparisons,
    headline,
    published_table,
    sentences,
    summarize,
)
from mmgraph_robust.reporting.board import make_board
from mmgraph_robust.reporting.overview import overview, scope
from mmgraph_robust.reporting.scatter import charts
from mmgraph_robust.reporting.summary import defense_names, undefended_lines

VISUAL = ("PGD", "visual", 0.05)


def _find(rows, **wanted):
    return next(row for row in rows if all(getattr(row, key) == value for key, value in wanted.items()))


def test_means_deviations_and_declines_by_hand(entry):
    rows = summarize([entry(seed=0, clean=0.2, kept={VISUAL: 0.7}), entry(seed=1, clean=0.4, kept={VISUAL: 0.5})])
    clean, attacked = rows
    assert clean.attack is None
    assert clean.seeds == 2
    assert clean.mean["recall@20"] == pytest.approx(0.3)
    assert clean.std["recall@20"] == pytest.approx(0.2 / math.sqrt(2))
    assert clean.decline == {}
    assert attacked.mean["recall@20"] == pytest.approx((0.14 + 0.2) / 2)
    # The mean of the declines, which is not the decline of the means (-43.3 %).
    assert attacked.decline["recall@20"] == pytest.approx(-40)
    assert attacked.decline_std["recall@20"] == pytest.approx(20 / math.sqrt(2))
    assert attacked.margins == pytest.approx({"id": 0.5, "visual": 1.2 * 0.6, "textual": 0.7})


def test_flags_are_doubts_or_mere_remarks(entry):
    one = entry(kept={VISUAL: 1.0})
    one["attacks"][0]["flags"] = {"no_gradient": "it met none", "ignored_modality": "it is not shown it"}
    clean, attacked = summarize([one])
    assert isinstance(clean, Row)
    assert clean.doubts == clean.remarks == {}
    assert attacked.doubts == {"no_gradient": "it met none"}
    assert attacked.remarks == {"ignored_modality": "it is not shown it"}
    assert (clean.modalities, clean.budget, attacked.modalities, attacked.budget) == ((), 0.0, ("visual",), 0.05)


def test_one_seed_has_no_deviation(entry):
    rows = summarize([entry(kept={VISUAL: 0.7})])
    assert rows[1].std["recall@20"] is None
    assert rows[1].decline_std["recall@20"] is None
    assert "±" not in "".join(cell for row in headline(rows).rows for cell in row)


def test_a_missing_attack_is_counted(entry):
    rows = summarize([entry(seed=0, kept={VISUAL: 0.7}), entry(seed=1)])
    assert _find(rows, attack=None).seeds == 2
    assert _find(rows, attack="PGD").seeds == 1
    assert any("1 of 2 seeds" in note for note in headline(rows).notes)


def test_zero_clean_value_has_no_decline(entry):
    row = summarize([entry(seed=0, clean=0.0, kept={VISUAL: 0.7}), entry(seed=1, kept={VISUAL: 0.7})])[1]
    assert row.decline["recall@20"] is None
    assert row.decline_std["recall@20"] is None


def test_order_of_modalities_makes_no_second_row(entry):
    first, second = entry(seed=0, kept={VISUAL: 0.7}), entry(seed=1, kept={VISUAL: 0.7})
    first["attacks"][0]["modalities"] = ["visual", "textual"]
    second["attacks"][0]["modalities"] = ["textual", "visual"]
    assert [row.seeds for row in summarize([first, second])] == [2, 2]


def test_same_attack_with_other_arguments_is_told_apart(entry):
    result = entry(kept={VISUAL: 0.7})
    result["attacks"].append(copy.deepcopy(result["attacks"][0]))
    with pytest.raises(CheckpointError, match="2 times"):
        check_entry(result)
    for attack, steps in zip(result["attacks"], (10, 50), strict=True):
        attack["arguments"] = {"steps": steps, "seed": 1}
    assert {row.attack for row in summarize([result])} == {None, "PGD (steps=10)", "PGD (steps=50)"}


def test_a_seed_counts_once(entry):
    with pytest.raises(CheckpointError, match="twice"):
        summarize([entry(), entry()])


def test_strongest_attack_at_the_lowest_budget_is_chosen(entries):
    chosen = [(s.attack, s.modalities, s.budget) for s in choose_settings(summarize(entries))]
    assert chosen == [("PGD", ("textual",), 0.05), ("PGD", ("visual",), 0.05)]


def test_no_entries_are_an_error():
    with pytest.raises(DataError, match="at least one"):
        headline([])


PLAIN = {"defense": {"name": "none", "label": "plain"}}


def test_each_model_has_one_line_without_a_defense(entry):
    entries = [
        entry("A", "plain", config=PLAIN), entry("A", "none"), entry("A", "Strong"),
        entry("B", "plain", config=PLAIN), entry("B", "bare", config=PLAIN), entry("C", "Strong"),
    ]  # fmt: skip
    assert undefended_lines(entries) == {("hm", "A", "none"), ("hm", "B", "bare")}
    rows = summarize(entries)
    assert [row.line[1:] for row in rows if row.undefended] == [("A", "none"), ("B", "bare")]
    assert [row.defense for row in rows if row.model == "B"] == ["bare", "plain"]
    assert defense_names(rows) == ["bare", "none", "Strong", "plain"]


def test_a_label_of_no_defense_changes_no_report(entry, with_users):
    def run(label):
        kept = {("PGD", "visual", 0.05): 0.5}
        bare = with_users(entry("A", label, clean=0.3, kept=kept, config=PLAIN))
        return [bare, with_users(entry("A", "Strong", clean=0.2, kept=kept))]

    told = []
    for label in ("none", "plain"):
        entries = run(label)
        board = make_board(summarize(entries))
        found = [
            [(one.defense, one.setting) for one in comparisons(entries)],
            sentences(entries), scope(board), overview(board), charts(board)[0].arrows,
            published_table(entries, {"source": "s", "tolerance": 0.05, "values": {"A": {"recall@20": 0.3}}}).rows,
            [(row.attack, row.undefended) for row in summarize(entries)],
        ]  # fmt: skip
        told.append(repr(found))
    assert "without a defense" in told[0]
    assert "Strong leaves more than no defense to 0 of 1 backbone" in told[0]
    assert told[0] == told[1]
