"""The table with intervals and marks."""

from __future__ import annotations

import csv
import io

import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import Setting, comparisons, headline, leaderboard, to_csv, to_html, to_latex, to_markdown

VISUAL = ("PGD", "visual", 0.05)
UP, DOWN = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"


@pytest.fixture
def shop(entry, with_users):
    """Two seeds that differ by 0.02; a defense that holds and costs, and one that does nothing."""
    made = []
    for seed in range(2):
        for defense, clean, kept in (("none", 0.30, 0.5), ("Strong", 0.20, 0.95), ("Idle", 0.30, 0.5)):
            made.append(with_users(entry("GRCN", defense, seed, clean + 0.02 * seed, {VISUAL: kept})))
    return made


def test_marks_and_intervals(shop):
    table = leaderboard(shop)
    none, idle, strong = table.rows
    names = [column.name for column in table.columns]
    assert names == ["Model", "Defense", "Seeds", "Clean: Recall@20",
                     "PGD on visual at 5 %: Recall@20", "PGD on visual at 5 %: change"]  # fmt: skip
    # s of 0.30 and 0.32 is 0.02 / sqrt 2, t of one degree of freedom 12.7062: half the width is 12.7062 * 0.01.
    assert none[2:4] == ("2", "0.3100 ± 0.1271")
    assert idle[3] == "0.3100 ± 0.1271"
    assert strong[3] == f"0.2100 ± 0.1271 {DOWN}"
    assert strong[4].endswith(f" {UP}")
    assert UP not in none[4] + idle[4]
    assert any(f"{UP} better, {DOWN} worse" in note for note in table.notes)
    assert any("95 % confidence interval" in note for note in table.notes)


def test_it_shows_what_the_headline_shows(entries):
    board, head = leaderboard(entries), headline(entries)
    place = [column.name for column in board.columns].index("Seeds")
    kept = [k for k in range(len(board.columns)) if k != place]
    assert tuple(board.columns[k] for k in kept) == head.columns
    for shown, expected in ((board.values, head.values), (board.deviations, head.deviations)):
        assert [tuple(row[k] for k in kept) for row in shown] == list(expected)
    assert board.rows[-1][0] == "LightGCN (cannot be attacked through features)"
    assert set(board.rows[-1][4:]) == {"n/a"}


def test_csv_keeps_standard_deviations(shop):
    line = next(csv.DictReader(io.StringIO(to_csv(leaderboard(shop)))))
    assert float(line["Clean: Recall@20 std"]) == pytest.approx(0.02 / 2**0.5)
    assert line["Seeds"] == "2"


def test_every_form_prints_it(shop):
    shop[0]["attacks"][0]["flags"] = {"zero_gradient": "no gradient"}
    table = leaderboard(shop)
    for form in (to_markdown, to_html):
        assert all(mark in form(table) for mark in (UP, DOWN, "\N{DAGGER}"))
    assert all(mark in to_latex(table) for mark in (r"$\blacktriangle$", r"$\blacktriangledown$", r"\dag{}"))
    assert table.rows[0][4].endswith("\N{DAGGER}")


def test_two_data_sets_have_a_column(shop, entry):
    table = leaderboard([*shop, entry("GRCN", dataset="toys", kept={VISUAL: 0.5})])
    assert [row[0] for row in table.rows] == ["hm"] * 3 + ["toys"]
    # One seed has no interval.
    assert table.rows[-1][4] == "0.2000"
    assert any("Where there is one seed" in note for note in table.notes)


def test_without_values_per_user_there_are_no_marks_and_it_says_why(entry):
    table = leaderboard([entry("GRCN", "none", 0, 0.3), entry("GRCN", "Strong", 0, 0.1)])
    assert not any(mark in cell for row in table.rows for cell in row for mark in (UP, DOWN))
    assert any("no values of Recall@20 per user" in note for note in table.notes)
    assert not any(UP in note for note in table.notes)


def test_comparisons_that_are_made_already_are_taken(shop):
    compared = comparisons(shop)
    assert leaderboard(shop, compared=compared) == leaderboard(shop)
    assert not any(mark in str(leaderboard(shop, compared=[]).rows) for mark in (UP, DOWN))


def test_settings_can_be_picked(shop):
    with pytest.raises(ConfigError, match="no result for"):
        leaderboard(shop, settings=[Setting("PGD", ("visual",), "matrix", "l2", 0.1)])
    assert len(leaderboard(shop, settings=[]).columns) == 4


def test_no_verdict_against_a_number_that_a_check_contradicts(entry, with_users):
    made = []
    for seed in range(2):
        for defense, kept in (("none", 1.0), ("Strong", 0.9)):
            one = with_users(entry("GRCN", defense, seed, 0.30 + 0.02 * seed, {VISUAL: kept}))
            if defense == "none":
                one["attacks"][0]["flags"] = {"no_gradient": "nothing moved"}
            made.append(one)
    none, strong = leaderboard(made).rows
    assert "\N{DAGGER}" in none[4]
    assert DOWN not in strong[4]
