"""The opening says what the leaderboard says, and no more."""

from __future__ import annotations

from mmgraph_robust.reporting import summarize
from mmgraph_robust.reporting.board import make_board
from mmgraph_robust.reporting.overview import overview, scope

VISUAL = ("PGD", "visual", 0.05)


def _told(*entries):
    return overview(make_board(summarize(entries)))["hm"].translate({0xA0: " ", 0x2212: "-"})


def test_what_was_compared(entries, entry):
    board = make_board(summarize(entries))
    assert scope(board) == "2 backbones, 2 defenses, 1 data set, 2 seeds each, 2 attacks and 4 threats."
    text = scope(make_board(summarize([entry()])))
    assert text.startswith("1 backbone, no defenses, 1 data set and 1 seed each. With one seed each")


def test_losses_best_and_floor(entry):
    floor = entry("Ids", clean=0.1, feature_path="none", sensitive=None)
    text = _told(entry("A", kept={VISUAL: 0.4}), entry("B", kept={VISUAL: 0.9}), entry("C", clean=0.09,
                 kept={VISUAL: 0.9}), floor)  # fmt: skip
    assert "Under PGD on visual, 5 % per item: without a defense, Recall@20 changes by -60.0 % (A) to -10.0 %" in text
    assert "Most is left to B without a defense: 0.1800 of 0.2000." in text
    assert "1 of 3 fall below Ids (0.1000), which reads no features: A; below it even on clean features: C." in text
    poor = _told(entry("C", clean=0.09, kept={VISUAL: 0.9}), floor)
    assert "Even on clean features all lie below Ids (0.1000), which reads no features." in poor
    assert "fall below" not in poor


def test_a_doubtful_number_is_not_called_the_best(entry):
    doubted = entry("B", kept={VISUAL: 0.9})
    doubted["attacks"][0]["flags"] = {"zero_gradient": "no gradient"}
    text = _told(entry("A", kept={VISUAL: 0.4}), doubted)
    assert "Most is left to A without a defense: 0.0800 of 0.2000 (among those that are not marked †)." in text
    assert "1 of 2 numbers are marked †" in text
    assert "none is called the best" in _told(doubted)


def test_defenses_are_counted_beyond_the_spread_of_seeds(entry):
    def runs(defense, *kept):
        return [entry("A", defense, seed, kept={VISUAL: part}) for seed, part in enumerate(kept)]

    plain = runs("none", 0.4, 0.5)
    assert "D leaves more than no defense to 1 of 1 backbone." in _told(*plain, *runs("D", 0.7, 0.8))
    assert "D leaves more than no defense to 0 of 1 backbone." in _told(*plain, *runs("D", 0.45, 0.6))


def _runs(entry, defense, *seeds, model="A", kept=0.5):
    return [entry(model, defense, seed, (0.1, 0.2, 0.21)[seed], {VISUAL: kept}) for seed in seeds]


def test_only_seeds_of_both_are_compared(entry):
    text = _told(*_runs(entry, "none", 0), *_runs(entry, "D", 0, 1, 2))
    assert (
        "Under PGD on visual, 5 % per item, over seed 0, which both have: without a defense, Recall@20 changes" in text
    )
    assert "0.0500 of 0.1000." in text
    assert "D leaves more than no defense to 0 of 1 backbone." in text
    apart = _told(*_runs(entry, "none", 0), *_runs(entry, "D", 1, 2))
    assert "no seed is common to all: none is called the best." in apart
    assert "D shares no seed with no defense on 1 backbone." in apart
    assert "leaves more" not in apart
    assert "Most is left" not in apart


def test_the_floor_is_that_of_the_same_seeds(entry):
    floor = [entry("Ids", seed=s, clean=0.04 + 0.2 * s, feature_path="none", sensitive=None) for s in (0, 1)]
    text = _told(*_runs(entry, "none", 0), *_runs(entry, "none", 0, model="B", kept=0.3), *floor)
    assert "1 of 2 fall below Ids (0.1400), which reads no features: B." in text
    text = _told(*_runs(entry, "none", 0), floor[1])
    assert "1 share no seed with Ids." in text
    assert "fall below" not in text


def test_nothing_attacked_or_nothing_to_lose(entry):
    assert "No attack" in _told(entry())
    assert "there was nothing to lose" in _told(entry(clean=0.0, kept={VISUAL: 0.4}))
