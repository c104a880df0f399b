"""Intervals, the paired bootstrap and Holm's correction, by hand and on planted data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.reporting import holm, mean_interval, paired_bootstrap
from mmgraph_robust.reporting import statistics as module
from mmgraph_robust.reporting.statistics import bootstrap_means, half_width


def planted(users, difference, seed):
    """Hits of the same users before and after; some are easy, and `difference` more are hit afterwards."""
    rng = np.random.default_rng(seed)
    ease = rng.random(users)
    before = rng.random(users) < 0.1 + 0.4 * ease
    after = rng.random(users) < 0.1 + 0.4 * ease + difference
    return before.astype(float), after.astype(float)


def test_interval_of_three_seeds_by_hand():
    # t of two degrees of freedom at 97.5 % is 4.302653 in every table; s of 1, 2, 3 is 1.
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    # At 90 % it is 2.919986.
    assert half_width(1.0, 3, 0.9) == pytest.approx(2.919986 / math.sqrt(3), abs=1e-6)
    assert half_width(2.0, 31) == pytest.approx(2.042272 * 2 / math.sqrt(31), abs=1e-5)


def test_one_seed_has_no_interval():
    assert mean_interval([0.2]) is None
    assert half_width(None, 1) is None
    assert mean_interval([0.2, 0.2]) == pytest.approx((0.2, 0.2))


def test_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(0.3, 0.1, 4)) for _ in range(2000)]
    assert np.mean([low <= 0.3 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_no_list_of_numbers_is_refused(values):
    with pytest.raises(DataError, match=r"'values' expects|finite"):
        mean_interval(values)
    with pytest.raises(DataError, match=r"'b' expects"):
        paired_bootstrap([1.0, 2.0], values)


def test_users_must_be_the_same_and_more_than_one():
    with pytest.raises(DataError, match="same users on both sides .got 2 and 3"):
        paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="at least two"):
        paired_bootstrap([1.0], [2.0])
    with pytest.raises(ConfigError, match="resamples"):
        paired_bootstrap([1.0, 2.0], [2.0, 2.0], resamples=0)
    with pytest.raises(ConfigError, match="confidence"):
        paired_bootstrap([1.0, 2.0], [2.0, 2.0], confidence=95)


def test_bootstrap_of_two_users_by_hand():
    # Differences 0 and 1: the mean of a draw is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4; half of them are as far from
    # 1/2 as that is from zero.
    test = paired_bootstrap([5.0, 5.0], [5.0, 6.0], resamples=40_000)
    assert (test.difference, test.low, test.high, test.users) == (0.5, 0.0, 1.0, 2)
    assert test.p == pytest.approx(0.5, abs=0.01)


def test_bootstrap_agrees_with_the_normal_limit():
    a, b = planted(2000, 0.02, 3)
    test = paired_bootstrap(a, b)
    error = (b - a).std() / math.sqrt(2000)
    assert test.difference == pytest.approx((b - a).mean())
    assert test.low == pytest.approx(test.difference - 1.96 * error, abs=0.1 * error)
    assert test.high == pytest.approx(test.difference + 1.96 * error, abs=0.1 * error)
    normal = math.erfc(abs(test.difference) / error / math.sqrt(2))
    assert test.p == pytest.approx(normal, abs=0.015)
    narrow = paired_bootstrap(a, b, confidence=0.5)
    assert test.low < narrow.low < narrow.high < test.high


def test_p_beyond_the_draws_is_a_tail():
    a, b = planted(500, 0.5, 0)
    found = paired_bootstrap(a, b, resamples=999)
    z = (b - a).mean() / ((b - a).std() / math.sqrt(500))
    assert found.p == pytest.approx(2 * stats.t.sf(z, 499), rel=1e-6)
    # For many users that is the normal tail.
    a, b = planted(9000, 0.03, 0)
    z = (b - a).mean() / ((b - a).std() / math.sqrt(9000))
    normal = math.erfc(z / math.sqrt(2))
    assert normal < 1e-3
    assert paired_bootstrap(a, b, resamples=500).p == pytest.approx(normal, rel=0.05)
    # What draws can tell is theirs to tell: hardly one of 20 is as far, and the tail may only lower 1 / 21.
    a, b = planted(500, 0.05, 0)
    assert 0.001 < paired_bootstrap(a, b, resamples=20).p <= 1 / 21
    assert paired_bootstrap(a, b, resamples=20_000).p > 1 / 20_001


def test_no_tail_is_drawn_from_users_that_all_differ_alike():
    assert paired_bootstrap([0.1, 0.2], [0.3, 0.4], resamples=999).p == 1 / 1000
    # Two users whose differences are close: one degree of freedom promises little.
    assert paired_bootstrap([0.0, 0.0], [1.0, 1.1], resamples=999).p == 1 / 1000


def test_p_is_never_zero_and_one_where_nothing_differs():
    many = np.ones(5000)
    many[0] = 1.01
    assert 0 < paired_bootstrap(0 * many, many).p < 1e-300
    a, _ = planted(500, 0.5, 0)
    same = paired_bootstrap(a, a)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_rounding_makes_no_difference_of_none():
    # 0.1 + 0.2 - 0.3 is not zero in floating point; what is as far from it as zero is, is everything.
    a, b = np.array([0.1, 0.2, 0.0, 1.0]), np.array([0.0, 0.0, 0.3, 1.0])
    assert (b - a).mean() != 0
    assert paired_bootstrap(a, b).p == 1.0


def test_a_turned_comparison_turns_its_sign():
    a, b = planted(300, 0.1, 1)
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (back.difference, back.p) == (-there.difference, there.p)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_a_planted_difference_is_found_and_none_is_not():
    found = [paired_bootstrap(*planted(400, 0.15, seed), resamples=500).p < 0.05 for seed in range(100)]
    assert np.mean(found) > 0.95
    # 300 repetitions of 5 %: three standard errors are 3.8 %.
    alarms = [paired_bootstrap(*planted(400, 0.0, seed), resamples=500).p < 0.05 for seed in range(300)]
    assert 0.01 < np.mean(alarms) < 0.088


def test_the_interval_holds_the_planted_difference_as_often_as_it_says():
    tests = [paired_bootstrap(*planted(400, 0.1, seed), resamples=500) for seed in range(300)]
    assert 0.91 < np.mean([test.low <= 0.1 <= test.high for test in tests]) < 0.99


def test_pairing_sees_what_the_spread_between_users_would_hide():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 300)
    b = a + rng.normal(0.02, 0.05, 300)
    assert paired_bootstrap(a, b).p < 0.001


def test_blocks_change_nothing(monkeypatch):
    columns = [np.random.default_rng(seed).normal(0.05, 1, 200) for seed in range(5)]
    whole = bootstrap_means(columns, resamples=400)
    monkeypatch.setattr(module, "_BLOCK", 1000)
    parts = bootstrap_means(iter(columns), resamples=400)
    for one, other in zip(whole, parts, strict=True):
        assert (one.low, one.high, one.p) == pytest.approx((other.low, other.high, other.p), abs=1e-12)
    assert bootstrap_means(columns[:1], resamples=400, seed=1) != whole[:1]


def test_users_are_drawn_once_for_all_differences(monkeypatch):
    columns = [np.random.default_rng(seed).normal(0.05, 1, 50) for seed in range(40)]
    drawn = []

    class Counting:
        def __init__(self, seed):
            self.generator = np.random.Generator(np.random.PCG64(seed))

        def integers(self, *args, size):
            drawn.append(size)
            return self.generator.integers(*args, size=size)

    monkeypatch.setattr(module.np.random, "default_rng", Counting)
    bootstrap_means(columns, resamples=100)
    assert len(drawn) == 100
    # Blocks of ten differences keep [resamples, block] within a thousand numbers.
    monkeypatch.setattr(module, "_BLOCK", 1000)
    bootstrap_means(columns, resamples=100)
    assert len(drawn) == 100 + 4 * 100


def test_holm_by_hand():
    # 0.01 * 4; 0.02 * 3 for the second; 0.03 * 2 is no smaller than what came before; 0.04 * 1 is, and is lifted.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
    with pytest.raises(DataError, match="between 0 and 1"):
        holm([0.1, 1.1])


def test_holm_keeps_the_rate_of_families_with_a_false_alarm():
    rng = np.random.default_rng(0)
    families = [min(holm(rng.random(20).tolist())) < 0.05 for _ in range(2000)]
    assert np.mean(families) == pytest.approx(0.05, abs=0.015)
