"""Mean ranks."""

from __future__ import annotations

import pytest

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.reporting import rank_table
from mmgraph_robust.reporting.ranks import average_ranks

VISUAL, TEXTUAL, NOISE = ("PGD", "visual", 0.05), ("PGD", "textual", 0.05), ("Noise", "visual", 0.05)


def ranks(table):
    return {row[:2]: values[2:] for row, values in zip(table.rows, table.values, strict=True)}


def test_ties_share_the_mean_of_their_places():
    values = {"a": 0.3, "b": 0.5, "c": 0.3, "d": 0.1, "e": 0.3}
    assert average_ranks(values) == {"b": 1, "a": 3, "c": 3, "e": 3, "d": 5}
    assert average_ranks({"a": 1.0, "b": 1.0}) == {"a": 1.5, "b": 1.5}


def test_mean_ranks_by_hand(entry):
    # Clean: A 1, B and C share 2 and 3. Visual: C 1, B 2, A 3. Textual: A and B share 1 and 2, C 3.
    made = [
        entry("A", clean=0.4, kept={VISUAL: 0.25, TEXTUAL: 0.5, NOISE: 0.1}),
        entry("B", clean=0.2, kept={VISUAL: 0.75, TEXTUAL: 1.0, NOISE: 0.2}),
        entry("C", clean=0.2, kept={VISUAL: 1.0, TEXTUAL: 0.5, NOISE: 0.3}),
    ]
    table = rank_table(made)
    assert [column.label for column in table.columns[2:]] == ["overall", "attacked", "clean"]
    found = ranks(table)
    assert found["A", "none"] == pytest.approx(((1 + 3 + 1.5) / 3, (3 + 1.5) / 2, 1))
    assert found["B", "none"] == pytest.approx(((2.5 + 2 + 1.5) / 3, (2 + 1.5) / 2, 2.5))
    assert found["C", "none"] == pytest.approx(((2.5 + 1 + 3) / 3, (1 + 3) / 2, 2.5))
    assert [row[0] for row in table.rows] == ["A", "B", "C"]
    assert "overall over 3 of 3, attacked over 2 of 2, clean over 1 of 1" in table.notes[0]


def test_a_case_counts_only_if_all_were_run_in_it(entry):
    made = [
        entry("A", clean=0.4, kept={VISUAL: 0.1, TEXTUAL: 0.9}),
        entry("B", clean=0.2, kept={VISUAL: 0.9}),
        entry("A", clean=0.1, dataset="toys"),
    ]
    table = rank_table(made)
    assert ranks(table)["A", "none"] == (1.5, 2.0, 1.0)
    assert "overall over 2 of 4, attacked over 1 of 2, clean over 1 of 2" in table.notes[0]
    assert "Most cases are missed by B with defense none (2 each)." in table.notes


def test_no_shared_case_gives_no_rank(entry):
    table = rank_table([entry("A", dataset="toys"), entry("B")])
    assert set(table.values) == {(None,) * 5}


def test_a_case_is_ranked_over_the_seeds_that_all_have(entry):
    def runs(defense, *seeds, kept=0.5):
        return [entry("A", defense, seed, (0.1, 0.2, 0.21)[seed], {VISUAL: kept}) for seed in seeds]

    # The defense changes nothing in any seed.
    table = rank_table([*runs("none", 0), *runs("D", 0, 1, 2)])
    assert set(ranks(table).values()) == {(1.5, 1.5, 1.5)}
    assert "2 with other seeds for some are ranked over those that all have." in table.notes
    apart = rank_table([*runs("none", 0), *runs("D", 1, 2)])
    assert set(ranks(apart).values()) == {(None, None, None)}
    assert "overall over 0 of 2" in apart.notes[0]
    assert "2 in which no seed is common to all do not count." in apart.notes
    same = rank_table([*runs("none", 0, 1), *runs("D", 0, 1)])
    assert len(same.notes) == 1


def test_models_without_a_feature_path_are_ranked_on_clean_features_only(entry):
    made = [
        entry("A", clean=0.4, kept={VISUAL: 0.1}),
        entry("B", clean=0.2, kept={VISUAL: 0.9}),
        entry("Blind", clean=0.3, kept={VISUAL: 1.0}, feature_path="none"),
    ]
    table = rank_table(made)
    found = ranks(table)
    assert found["Blind", "none"] == (None, None, 2.0)
    assert table.rows[-1] == ("Blind", "none", "n/a", "n/a", "2.00")
    # Clean it stands between the two; overall it takes nobody's place.
    assert found["B", "none"] == (1.5, 1.0, 3.0)
    assert any("Blind: ranked on clean features only" in note for note in table.notes)
    alone = rank_table(made[2:])
    assert "overall over 0 of 2, attacked over 0 of 1, clean over 1 of 1" in alone.notes[0]


def test_ranks_of_doubtful_numbers_carry_the_mark(entry):
    made = [entry("A", kept={VISUAL: 0.1, NOISE: 0.1}), entry("B", kept={VISUAL: 0.2, NOISE: 0.1})]
    made[0]["attacks"][0]["flags"] = {"zero_gradient": "none"}
    made[1]["attacks"][1]["flags"] = {"stale_cache": "of noise, which is not ranked"}
    table = rank_table(made)
    assert [row for row in table.rows if row[0] == "A"] == [("A", "none", "1.75 \N{DAGGER}", "2.00 \N{DAGGER}", "1.50")]
    assert "\N{DAGGER}" not in "".join(next(row for row in table.rows if row[0] == "B"))
    assert any(note.startswith("\N{DAGGER}") for note in table.notes)


def test_unknown_metrics_and_nothing_to_rank(entry):
    with pytest.raises(ConfigError, match="did you mean"):
        rank_table([entry()], "recal@20")
    with pytest.raises(DataError, match="at least one"):
        rank_table([])
