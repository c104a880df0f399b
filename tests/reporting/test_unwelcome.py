"""The worst of each kind is found, and what lies within the spread of seeds is not."""

from __future__ import annotations

import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import summarize, write_page
from mmgraph_robust.reporting.unwelcome import unwelcome

PGD = ("PGD", "visual", 0.05)
SUITE = ("Suite", "visual", 0.05)
NOISE = ("Noise", "visual", 0.05)


def told(*entries, count=9):
    found = unwelcome(summarize(entries), count=count)
    return {what: where.translate({0xA0: " ", 0x2212: "-"}) for what, where in found}


def test_a_defense_that_does_harm_and_what_it_costs(entry):
    found = told(
        entry("A", kept={PGD: 0.5, NOISE: 1.0}),
        entry("A", "Good", clean=0.19, kept={PGD: 0.9, NOISE: 0.1}),
        entry("A", "Bad", clean=0.15, kept={PGD: 0.4, NOISE: 1.0}),
    )
    assert found["A defense that does harm"] == (
        "A on hm, PGD on visual at 5 % per item: 0.0600 Recall@20 is left with Bad, 0.1000 without a defense."
    )
    assert found["A defense that costs clean quality"] == (
        "With Bad, A on hm has 0.1500 Recall@20 on clean features instead of 0.2000 (-25.0 %)."
    )
    assert found["The deepest fall with a defense"] == (
        "A on hm, PGD on visual at 5 % per item: -60.0 % Recall@20 in spite of Bad (0.0600 left)."
    )


def test_what_seeds_cannot_tell_apart_is_no_harm(entry):
    def runs(defense, *kept):
        return [entry("A", defense, seed, kept={PGD: part}) for seed, part in enumerate(kept)]

    found = told(*runs("none", 0.5, 0.7), *runs("D", 0.45, 0.65))
    assert "A defense that does harm" not in found
    assert "A defense that costs clean quality" not in found
    assert found["The number on which seeds agree least"].startswith("A on hm, PGD on visual at 5 % per item: 0.1100 ±")


def test_seeds_that_only_one_side_has_are_no_cause(entry):
    def runs(defense, *seeds, model="A"):
        return [entry(model, defense, seed, (0.1, 0.2, 0.21)[seed], {PGD: 0.5, SUITE: 0.5}) for seed in seeds]

    # The defense changes nothing in any seed.
    found = told(*runs("none", 0, 1, 2), *runs("D", 0))
    assert "A defense that does harm" not in found
    assert "A defense that costs clean quality" not in found
    # Nor is anything known where no seed is common.
    assert "A defense that does harm" not in told(*runs("none", 1, 2), *runs("D", 0))
    worse = entry("A", "D", 0, 0.08, {PGD: 0.4})
    found = told(*runs("none", 0, 1, 2), worse)
    assert found["A defense that does harm"] == (
        "A on hm, PGD on visual at 5 % per item, over seed 0, which both have: 0.0320 Recall@20 is left with D, 0.0500 "
        "without a defense."
    )
    assert found["A defense that costs clean quality"].endswith("(-20.0 %), over seed 0, which both have.")


def test_suite_floor_and_sound_numbers_are_of_the_same_seeds(entry):
    def runs(model, defense, kept, *seeds, **changes):
        return [entry(model, defense, seed, (0.1, 0.4)[seed], kept, **changes) for seed in seeds]

    # The suite is the strongest in each seed, and ran on the better one, too.
    every = [*runs("A", "none", {PGD: 0.5, SUITE: 0.4}, 0), *runs("A", "none", {SUITE: 0.4}, 1)]
    assert "A single attack that did more than the suite" not in told(*every)
    kind = "No defense keeps it above a model without features"
    floor = [entry("Ids", seed=s, clean=0.04 + 0.2 * s, feature_path="none", sensitive=None) for s in (0, 1)]
    weak = [*runs("A", "none", {PGD: 0.5}, 0), *runs("A", "D", {PGD: 0.5}, 0)]
    assert kind not in told(*weak, *floor)
    assert "over seed 0, which all have: 0.0300" in told(*[
        *runs("A", "none", {PGD: 0.3}, 0, 1), *runs("A", "D", {PGD: 0.3}, 0),
    ], *floor)[kind]  # fmt: skip
    kind = "A number that looks best and cannot be trusted"
    doubted = runs("B", "none", {PGD: 0.5}, 0, 1)
    for one in doubted:
        one["attacks"][0]["flags"] = {"blind": "no gradient was met"}
    assert kind not in told(*runs("A", "none", {PGD: 0.5}, 0), *doubted)
    assert kind not in told(*runs("A", "none", {PGD: 0.1}, 1), *doubted[:1])


def test_a_blind_attack_on_the_undefended_model_makes_no_harm(entry):
    bare, defended = entry("A", kept={PGD: 1.0}), entry("A", "D", kept={PGD: 0.6})
    assert "A defense that does harm" in told(bare, defended)
    bare["attacks"][0]["flags"] = {"zero_gradient": "no gradient"}
    assert "A defense that does harm" not in told(bare, defended)


def test_below_a_model_without_features_whatever_defends_it(entry):
    floor = entry("Ids", clean=0.15, feature_path="none", sensitive=None)
    larger = ("PGD", "visual", 0.2)
    weak = entry("A", kept={PGD: 0.5, larger: 0.2}), entry("A", "D", kept={PGD: 0.7, larger: 0.3})
    kind = "No defense keeps it above a model without features"
    assert told(floor, *weak)[kind] == (
        "A on hm, PGD on visual at 5 % per item: 0.1400 Recall@20 is left at best, with D; Ids, which reads no "
        "features, has 0.1500."
    )
    # At the small budget the defense keeps it above.
    better = entry("A", "E", kept={PGD: 0.8, larger: 0.3})
    assert told(floor, *weak, better)[kind].startswith("A on hm, PGD on visual at 20 % per item: 0.0600")
    # Nobody promised anything for a model that was below before, nor for one without a defense.
    poor = entry("B", clean=0.1, kept={PGD: 0.5}), entry("B", "D", clean=0.1, kept={PGD: 0.9})
    assert kind not in told(floor, *poor)
    assert kind not in told(floor, weak[0])


def test_one_attack_that_did_more_than_the_suite(entry):
    kind = "A single attack that did more than the suite"
    assert told(entry("A", kept={PGD: 0.4, SUITE: 0.5}))[kind] == (
        "A on hm, PGD on visual at 5 % per item: 0.0800 Recall@20 is left without a defense, by the suite 0.1000; the "
        "search of the suite was not at its best there."
    )
    assert kind not in told(entry("A", kept={PGD: 0.5, SUITE: 0.4}))
    assert kind not in told(entry("A", kept={("PGD", "textual", 0.05): 0.1, ("PGD", "visual", 0.2): 0.1, SUITE: 0.5}))
    # Names tell of what varies within a class only.
    wide = entry("A", kept={PGD: 0.4, SUITE: 0.5, ("Suite", "visual", 0.1): 0.4})
    wide["attacks"][2]["goal"] = {"name": "Promote", "items": [1]}
    assert kind in told(wide)
    # A suite that knew less may do less.
    blind = entry("A", kept={PGD: 0.4, SUITE: 0.5})
    blind["attacks"][1]["knowledge"] = "scores"
    assert kind not in told(blind)
    # The frozen graph and the rebuilt one are two threats.
    two = entry("A", kept={PGD: 0.4, SUITE: 0.5})
    two["attacks"][0]["graph"], two["attacks"][1]["graph"] = "rebuilt", "frozen"
    again = entry("A", kept={PGD: 0.6, SUITE: 0.3})
    again["attacks"][0]["graph"], again["attacks"][1]["graph"] = "frozen", "rebuilt"
    assert kind not in told(two | {"attacks": [*two["attacks"], *again["attacks"]]})


def test_a_doubtful_number_that_looks_best(entry):
    kind = "A number that looks best and cannot be trusted"
    doubted = entry("B", kept={PGD: 0.9})
    doubted["attacks"][0]["flags"] = {"blind": "no gradient was met"}
    assert told(entry("A", kept={PGD: 0.4}), doubted)[kind] == (
        "B on hm, PGD on visual at 5 % per item: 0.1800 Recall@20 seems to be left without a defense, more than any "
        "sound number there. It is marked †: no gradient was met."
    )
    assert kind not in told(entry("A", kept={PGD: 0.95}), doubted)
    # Who cannot be attacked is no peer.
    immune = entry("Ids", clean=0.19, kept={PGD: 1.0}, feature_path="none", sensitive=None)
    assert kind in told(entry("A", kept={PGD: 0.4}), doubted, immune)
    assert "seems to be left without a defense, and no sound number stands beside it." in told(doubted, immune)[kind]


def test_an_attack_with_target_items_is_not_judged_by_the_ranking(entry):
    def aimed(defense, plain, promoted):
        made = entry("A", defense, kept={PGD: plain, SUITE: promoted})
        for attack, goal in zip(made["attacks"], ("Untargeted", "Promote"), strict=True):
            attack["attack"], attack["goal"] = "PGD", {"name": goal, "k": 20, "items": [1], "users": None}
        return made

    found = told(aimed("none", 0.5, 0.9), aimed("D", 0.8, 0.1))
    assert "A defense that does harm" not in found
    assert "(0.1600 left)" in found["The deepest fall with a defense"]


def test_so_many_at_most_and_in_this_order(entries, entry):
    found = unwelcome(summarize(entries))
    assert [what for what, _ in found] == [
        "A defense that does harm",
        "The deepest fall with a defense",
        "The number on which seeds agree least",
    ]
    assert unwelcome(summarize(entries), count=2) == found[:2]
    assert unwelcome(summarize([entry()])) == []
    with pytest.raises(ConfigError, match="unknown metric"):
        unwelcome(summarize(entries), "recal@20")


def test_the_page_says_it_first(entries, entry, tmp_path):
    write_page(entries, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.index("What one would least like to see") < page.index('id="leaderboard"')
    for what, _ in unwelcome(summarize(entries)):
        assert f"<dt>{what}</dt>" in page
    write_page([entry()], tmp_path / "page.html")
    assert "least like" not in (tmp_path / "page.html").read_text()
