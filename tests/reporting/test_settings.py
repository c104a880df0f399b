"""What was done to the features, told apart and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmgraph_robust.reporting import (
    Setting,
    choose_settings,
    comparison_table,
    comparisons,
    full,
    headline,
    leaderboard,
    plot_budget_curve,
    rank_table,
    summarize,
    to_markdown,
    write_page,
)
from mmgraph_robust.reporting.board import make_board
from mmgraph_robust.reporting.cards import make_cards
from mmgraph_robust.reporting.overview import scope
from mmgraph_robust.reporting.settings import labelled_attacks, notes_on_terms


def promote(*items, attack="PGD", budget=0.05):
    """An attack that promotes some items."""
    goal = {"name": "Promote", "items": [*items], "users": None}
    return {
        "attack": attack, "modalities": ["visual"], "scope": "item", "norm": "l2", "budget": budget, "goal": goal,
    }  # fmt: skip


def named(attacks):
    return [setting.attack for setting, _ in labelled_attacks(attacks)]


def test_other_targets_are_numbered_in_the_order_of_the_attacks():
    assert named([promote(1), promote(2), promote(1, budget=0.1), promote(3)]) == ["PGD", "PGD #2", "PGD", "PGD #3"]
    assert named([promote(1, 2), promote(3)]) == ["PGD (goal=Promote 2 items)", "PGD (goal=Promote 1 items)"]


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ("Noise", True),
        ("Noise #2", True),
        ("Noise (steps=2)", True),
        ("Noise (steps=2) #10", True),
        ("NoiseFree", False),
        ("PGD #2", False),
        ("PGD (start=Noise)", False),
    ],
)
def test_noise_on_any_target_is_no_attack(attack, expected):
    assert Setting(attack, ("visual",), "item", "l2", 0.05).is_control is expected


def test_noise_on_other_targets_has_no_rank(entry):
    runs = []
    for defense in ("none", "Strong"):
        kept = {(a, "visual", 0.05): 0.9 for a in ("PGD", "Noise")}
        one = entry(defense=defense, kept=kept)
        one["attacks"] = [a | {"items": [item]} for a in one["attacks"] for item in (1, 2)]
        runs.append(one)
    # Clean, PGD and PGD #2; noise is none.
    assert "overall over 3 of 3" in rank_table(runs).notes[0]
    # Nor is an attack that promotes items.
    runs = [one | {"attacks": [a | promote(1, attack=a["attack"]) for a in one["attacks"][::2]]} for one in runs]
    assert "overall over 1 of 1" in rank_table(runs).notes[0]


def test_an_attack_that_promotes_items_heads_no_table_beside_one_that_ruins_the_ranking(entry):
    one = entry(kept={("PGD", "visual", 0.05): 0.5})
    both = one | {"attacks": [*one["attacks"], one["attacks"][0] | promote(1, attack="APGD", budget=0.01)]}
    assert [s.attack for s in choose_settings(summarize([both]))] == ["PGD"]
    only = one | {"attacks": both["attacks"][1:]}
    assert [s.attack for s in choose_settings(summarize([only]))] == ["APGD"]


def test_what_is_under_the_same_threat_is_alike():
    setting = Setting("PGD", ("visual",), "item", "l2", 0.05)
    assert setting.is_like(replace(setting, attack="Noise #2"))
    for change in ({"scope": "matrix"}, {"norm": "linf"}, {"budget": 0.1}, {"modalities": ("textual",)},
                   {"terms": "graph=frozen"}):  # fmt: skip
        assert not setting.is_like(replace(setting, **change))


def test_an_absolute_budget_is_no_share_of_the_features(entry):
    absolute = Setting("PGD", ("visual",), "item", "l2", 0.05, relative=False)
    assert absolute.label == "PGD on visual at 0.05 per item (absolute)"
    assert replace(absolute, norm="linf").threat == "per item (linf, absolute)"
    assert not absolute.is_like(replace(absolute, relative=True))
    one = entry(kept={("PGD", "visual", 0.05): 0.5, ("PGD", "visual", 0.1): 0.4})
    for attack in one["attacks"]:
        attack["relative"] = False
    text = to_markdown(headline([one], "recall@20"))
    assert "PGD on visual at 0.05: Recall@20" in text
    assert "Budgets are per item (absolute), in the unit of the features." in text
    assert "%:" not in text
    assert "| 0.05 | item |" in to_markdown(full([one], "recall@20"))
    ((name, figure),) = plot_budget_curve([one])
    assert name == "budget-visual-absolute-hm"
    assert figure.axes[0].get_xlabel() == "budget, in the unit of the features"
    assert max(figure.axes[0].lines[0].get_xdata()) == 0.1
    # Beside relative budgets it is another threat, and those are shown first.
    both = one | {"attacks": [*one["attacks"], *entry(kept={("PGD", "visual", 0.2): 0.3})["attacks"]]}
    assert [s.relative for s in choose_settings(summarize([both]))] == [True]


def test_numbers_of_targets():
    setting = Setting("PGD (steps=2)", ("visual",), "item", "l2", 0.05)
    assert setting.numbered(1) == setting
    assert setting.numbered(2).attack == "PGD (steps=2) #2"
    assert setting.numbered(2).numbered(3).attack == "PGD (steps=2) #3"
    assert [setting.numbered(n).number for n in (1, 2, 12)] == [1, 2, 12]


def test_surrogates_differ_between_seeds_and_are_no_part_of_the_name():
    def transfer(weights):
        arguments = {"name": "Transfer", "surrogate": "VBPR", "weights": weights}
        return promote(attack="Transfer") | {"goal": None, "arguments": arguments}

    seeds = [[transfer("a1"), transfer("b1")], [transfer("a2"), transfer("b2")]]
    among = [attack for attacks in seeds for attack in attacks]
    for attacks in seeds:
        assert [s.attack for s, _ in labelled_attacks(attacks, among)] == ["Transfer", "Transfer #2"]


WEAK = {"graph": "frozen", "items": [1, 2, 3], "labels": "train", "box": "clean", "knowledge": "white", "queries": None}
SAID = (
    "Every attack: only 3 items may be changed; item graphs are frozen, so a change does not reach them; the attacker "
    "knows the training interactions, not those of the test split; changed features stay within the range of the clean "
    "ones."
)


def weakened(entry, defense="none"):
    """Every attack of it has the same weak threat, so that no name tells of it."""
    one = entry(defense=defense, kept={("PGD", "visual", 0.05): 1.0, ("Noise", "visual", 0.05): 1.0})
    return one | {"attacks": [attack | WEAK for attack in one["attacks"]]}


def test_what_all_attacks_share_is_told_wherever_they_are_shown(entry, tmp_path):
    runs = [weakened(entry), weakened(entry, "D")]
    tables = [headline(runs), leaderboard(runs), full(runs), rank_table(runs), comparison_table(comparisons(runs))]
    for table in [*tables, make_cards(runs)[0].tables[0]]:
        assert table.notes.count(SAID) == 1, table.title
    assert SAID in scope(make_board(summarize(runs)))
    write_page(runs, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"<li>{SAID}</li>" in page[page.index('id="board"') : page.index('id="board-data"')]


def test_a_usual_threat_needs_no_words(entry):
    one = weakened(entry)
    usual = {"graph": "rebuilt", "items": None, "labels": "test", "box": None, "goal": {"name": "Untargeted"}}
    for terms in (usual, dict.fromkeys(WEAK)):
        told = [a | WEAK | terms for a in one["attacks"]]
        assert notes_on_terms(setting for setting, _ in labelled_attacks(told)) == []


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (
            {"goal": {"name": "Hide", "items": [1], "users": [2, 3]}},
            "the goal is to hide 1 item; only 2 users of interest",
        ),
        ({"goal": {"name": "Own"}}, "the goal is Own"),
        ({"labels": "val"}, "the attacker knows the validation interactions, not those of the test split"),
        ({"box": {"visual": [-1.0, 2.0]}}, "changed features stay within -1.0 to 2.0 on visual"),
        ({"knowledge": "transfer"}, "no white box, the attacker knows other models only"),
        (
            {"knowledge": "ranks", "queries": 50},
            "no white box, the attacker sees the ranked lists of what he uploads; 50 queries at most",
        ),
    ],
)
def test_each_term_in_words(terms, words):
    attacks = [promote(1) | {"goal": None} | terms, promote(1, attack="MIM") | {"goal": None}]
    assert notes_on_terms(setting for setting, _ in labelled_attacks(attacks)) == [f"PGD: {words}."]
