"""Tables of results."""

from __future__ import annotations

import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import (
    Setting,
    full,
    headline,
    sensitive_table,
    summarize,
    to_html,
    to_markdown,
    training_table,
)
from mmgraph_robust.reporting.tables import doubt_notes


def test_headline_numbers(entries):
    table = headline(entries)
    assert [row[:2] for row in table.rows[:3]] == [
        ("GRCN", "none"), ("GRCN", "AdversarialTraining"), ("GRCN", "ModalityBalancing"),
    ]  # fmt: skip
    names = [column.name for column in table.columns]
    assert names[-2:] == ["PGD on visual at 5 %: Recall@20", "PGD on visual at 5 %: change"]
    # Seed 0 keeps 70 %, seed 1 keeps 69 %.
    assert table.values[0][-1] == pytest.approx(-30.5)
    assert table.rows[0][-1] == "\N{MINUS SIGN}30.5 ± 0.7 %"
    assert table.values[0][-2] == pytest.approx((0.2 * 0.7 + 0.22 * 0.69) / 2)


def test_model_without_feature_path_is_never_robust_by_merit(entries, entry):
    entries = [*entries[:-1], entry("LightGCN", "none", 1, 0.15, {("PGD", "visual", 0.05): 1.0}, feature_path="none")]
    row = headline(entries).rows[-1]
    assert row[0] == "LightGCN (cannot be attacked through features)"
    assert set(row[3:]) == {"n/a"}
    attacked = next(row for row in full(entries).rows if row[1] == "LightGCN" and row[3] == "PGD")
    assert "0.0" not in attacked
    assert "n/a" in attacked


def test_settings_can_be_picked(entries):
    noise = Setting("Noise", ("visual",), "item", "l2", 0.1)
    assert [column.group for column in headline(entries, settings=[noise]).columns][-1] == "Noise on visual at 10 %"
    with pytest.raises(ConfigError, match="no result for"):
        headline(entries, settings=[Setting("PGD", ("visual",), "matrix", "l2", 0.1)])


def test_few_settings_are_all_shown(entry):
    kept = {("PGD", "visual", 0.05): 0.7, ("Noise", "visual", 0.05): 0.99}
    assert len(headline([entry(kept=kept)]).columns) == 3 + 4


def test_a_hidden_gradient_does_not_go_unsaid(entry):
    def kept(pgd, single):
        return {(a, m, 0.05): v for m in ("visual", "textual") for a, v in (("PGD", pgd), ("SingleStep", single))}

    notes = headline([entry(kept=kept(0.2, 0.5)), entry(defense="Masking", kept=kept(0.9, 0.6))]).notes
    assert any("Masking loses more under SingleStep on visual" in note for note in notes)


def test_attacks_under_another_threat_are_no_rivals(entry):
    def run(defense):
        one = entry(defense=defense, kept={(a, m, 0.05): 0.9 for a in ("PGD", "SPSA") for m in ("visual", "textual")})
        harsher = entry(kept={("PGD", "visual", 0.05): 0.1})["attacks"][0] | {"scope": "matrix"}
        return one | {"attacks": [*one["attacks"], harsher]}

    assert not any("loses more" in note for note in headline([run("none"), run("Strong")]).notes)


def test_unknown_metric_names_the_closest(entries):
    with pytest.raises(ConfigError, match=r"did you mean 'recall@20'"):
        headline(entries, "recal@20")


def test_full_table_has_every_metric_and_setting(entries):
    table = full(entries, "ndcg@20")
    assert len(table.rows) == 3 * (1 + 12) + 1
    assert len({column.group for column in table.columns if column.group}) == 6
    assert next(column.group for column in table.columns if column.group) == "NDCG@20"


def test_sensitive_modality_with_disagreeing_seeds(entry):
    other = {"by_margin": "textual", "by_metric": "visual"}
    row = sensitive_table([entry(seed=0), entry(seed=1), entry(seed=2, sensitive=other)]).rows[0]
    assert row[-2:] == ("visual (2 of 3 seeds), textual (1 of 3 seeds)", "visual")
    table = sensitive_table([entry(sensitive=other)])
    assert any("disagree" in note for note in table.notes)
    assert sensitive_table([entry(sensitive=None)]).rows == ()


def test_training_means_under_either_name(entry):
    second = entry(seed=1)
    second["training"]["best"] = second["training"].pop("best_validation")
    values = training_table([entry(seed=0), second]).values[0]
    assert values[-5:] == pytest.approx((2, 8, 7, 0.17, 10.5))


def test_doubtful_numbers_carry_a_mark_and_the_reason(entry):
    doubtful = entry(kept={("PGD", "visual", 0.05): 0.9, ("Noise", "visual", 0.05): 0.99})
    doubtful["attacks"][0]["flags"] = {"zero_gradient": "no gradient in 97 % of the items"}
    doubtful["attacks"][1]["flags"] = {"graph_path_only": "explains, and casts no doubt"}
    for table in (headline([doubtful]), full([doubtful])):
        cells = [cell for row in table.rows for cell in row if "\N{DAGGER}" in cell]
        assert cells
        (note,) = [n for n in table.notes if n.startswith("\N{DAGGER}")]
        assert "GRCN with defense none under PGD on visual at 5 % per item: zero_gradient, no gradient in 97 %" in note
        assert "\N{DAGGER}" in to_html(table)
        assert "\N{DAGGER}" in to_markdown(table)
    noise = [c for c in headline([doubtful]).columns if c.group.startswith("Noise")]
    place = headline([doubtful]).columns.index(noise[0])
    assert "\N{DAGGER}" not in headline([doubtful]).rows[0][place]


def test_a_doubt_names_the_data_set_where_there_are_several(entry):
    attack = ("PGD", "visual", 0.05)
    one = entry("A", kept={attack: 0.5})
    one["attacks"][0]["flags"] = {"no_gradient": "nothing was met"}
    other = entry("A", kept={attack: 0.5}, dataset="tiktok")
    (alone,) = doubt_notes(summarize([one]))
    assert "A with defense none under PGD" in alone
    (note,) = doubt_notes(summarize([one, other]))
    assert "A with defense none on hm under PGD on visual at 5 % per item: no_gradient, nothing was met." in note


def test_a_rival_is_told_of_over_the_seeds_of_both(entry):
    pgd, mim = ("PGD", "visual", 0.05), ("MIM", "visual", 0.05)
    # MIM does less in each seed that both ran on, and ran on a weak one besides.
    runs = [entry("A", seed=0, kept={pgd: 0.5, mim: 0.6}), entry("A", seed=1, kept={mim: 0.0})]
    table = headline([entry("B", kept={pgd: 0.1, mim: 0.9}), *runs], max_settings=1)
    assert table.columns[3].group == "PGD on visual at 5 %"
    assert not any("loses more" in note for note in table.notes)
