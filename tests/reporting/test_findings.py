"""What is said about the numbers."""

from __future__ import annotations

import pytest

from mmgraph_robust.reporting import sentences

VISUAL = ("PGD", "visual", 0.05)


def test_says_what_is_lost_and_what_a_defense_changes(entries):
    first, second = sentences(entries)
    assert first.startswith("Under PGD on visual at 5 % per item, GRCN on hm loses 30.5 ± 0.7 % of its Recall@20")
    assert "With ModalityBalancing it loses 12.5 ± 0.7 % of its Recall@20 (0.1837 left): the defense helps" in first
    assert "With AdversarialTraining it loses 36.5 ± 0.7 % of its Recall@20 (0.1333 left): worse than" in first
    assert "Random noise of the same size: it loses 2.5 ± 0.7 %" in first
    assert "falls below LightGCN" in first
    assert "with no defense, AdversarialTraining." in first
    assert "cannot be attacked through features" in second
    assert "no proof of robustness" in second


@pytest.mark.parametrize(
    ("clean", "kept", "verdict"),
    [
        (0.2, 0.9, "the defense helps; on clean data it costs nothing"),
        (0.1, 0.9, "a smaller share, yet less is left"),
        (0.4, 0.6, "a larger share, yet more is left"),
        (0.2, 0.5, "worse than without a defense"),
        (0.2, 0.7, "no difference"),
    ],
)
def test_a_defense_is_judged_by_what_is_left_too(entry, clean, kept, verdict):
    told = sentences([entry(kept={VISUAL: 0.7}), entry(defense="D", clean=clean, kept={VISUAL: kept})])
    assert verdict in told[0]
    assert told[-1].startswith("There is one seed each")


def test_differences_within_the_spread_are_no_difference(entry):
    results = [entry(seed=s, kept={VISUAL: 0.7 + 0.1 * s}) for s in (0, 1)]
    results += [entry(defense="D", seed=s, kept={VISUAL: 0.72 + 0.1 * s}) for s in (0, 1)]
    assert "within the spread of the seeds" in sentences(results)[0]


# A defense that changes nothing, where seeds differ much.
CLEAN = (0.1, 0.2, 0.21)


def runs(entry, defense, *seeds, model="A"):
    return [entry(model, defense, seed, CLEAN[seed], {VISUAL: 0.5}) for seed in seeds]


@pytest.mark.parametrize(("bare", "defended"), [((0, 1, 2), (0,)), ((0,), (0, 1, 2))])
def test_verdicts_are_over_the_seeds_of_both(entry, bare, defended):
    text = sentences([*runs(entry, "none", *bare), *runs(entry, "D", *defended)])[0]
    assert "no difference (over seed 0, which both have); on clean data it costs nothing (over seed 0" in text


def test_without_a_seed_in_common_there_is_no_verdict(entry):
    text = sentences([*runs(entry, "none", 0), *runs(entry, "D", 1, 2)])[0]
    assert "no verdict, for none of its seeds was run without a defense." in text
    assert "on clean data" not in text


def test_the_floor_is_that_of_the_same_seeds(entry):
    floor = [entry("Ids", seed=s, clean=0.4 * CLEAN[s], feature_path="none", sensitive=None) for s in (0, 1, 2)]
    text = sentences([*runs(entry, "none", 0), *floor])[0]
    assert "All of this stays above Ids" in text
    assert text.endswith("Where their seeds differ, it is compared with Ids over those that both have.")
    text = sentences([*runs(entry, "none", 0), *floor[1:]])[0]
    assert "With no defense it shares no seed with Ids, which reads no features: no verdict." in text
    assert "stays above" not in text


def test_nothing_is_said_of_what_was_not_attacked(entry):
    assert "nothing can be said" in sentences([entry()])[0]
    assert "nothing can be said" in sentences([entry(clean=0.0, kept={VISUAL: 0.7})])[0]


def test_a_doubtful_number_is_no_verdict(entry):
    bare, defended = entry("A", kept={VISUAL: 0.4}), entry("A", "D", kept={VISUAL: 1.0})
    assert "the defense helps" in sentences([bare, defended])[0]
    defended["attacks"][0]["flags"] = {"no_gradient": "the attack met no gradient"}
    text = sentences([bare, defended])[0]
    assert "left, †): no verdict, for what is marked † is not to be trusted as it stands" in text
    assert "helps" not in text


def test_noise_under_the_same_threat_is_told_whatever_it_is_called(entry):
    noise = ("Noise", "visual", 0.05)
    one = entry("A", kept={VISUAL: 0.4, noise: 0.9})
    frozen = one["attacks"][1] | {"graph": "frozen"}
    one["attacks"] = [a | {"graph": "rebuilt"} for a in one["attacks"]] + [frozen]
    assert "Random noise of the same size: it loses 10.0 %" in sentences([one])[0]
