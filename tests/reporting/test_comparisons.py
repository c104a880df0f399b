"""Every defense against no defense."""

from __future__ import annotations

import numpy as np
import pytest

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.experiment.report import without_users
from mmgraph_robust.reporting import (
    Comparison,
    PairedTest,
    Setting,
    choose_settings,
    comparison_table,
    comparisons,
    holm,
    paired_bootstrap,
    paired_tests,
    pairing,
    read_tests,
    shown_comparisons,
    summarize,
    to_csv,
    write_tests,
)
from mmgraph_robust.reporting.pairing import Pair, judged
from mmgraph_robust.reporting.statistics import bootstrap_means
from mmgraph_robust.utils import unpack

VISUAL = ("PGD", "visual", 0.05)
PGD = Setting("PGD", ("visual",), "item", "l2", 0.05)


@pytest.fixture
def shop(entry, with_users):
    """Three seeds: a strong defense that costs clean quality, one that does nothing, and none."""
    made = []
    for seed in range(3):
        for defense, clean, kept in (("none", 0.3, 0.5), ("Strong", 0.2, 0.95), ("Idle", 0.3, 0.5)):
            made.append(with_users(entry("GRCN", defense, seed, clean, {VISUAL: kept, ("Noise", "visual", 0.05): 1.0})))
    return made


def find(compared, defense, setting):
    return next(c for c in compared if (c.defense, c.setting) == (defense, setting))


def test_a_planted_difference_is_told_from_none(shop):
    compared = comparisons(shop)
    assert len(compared) == 2 * 3
    assert {(c.defense, c.setting): c.verdict for c in compared if c.setting in (None, PGD)} == {
        ("Strong", None): "worse",
        ("Strong", PGD): "better",
        ("Idle", None): "no difference shown",
        ("Idle", PGD): "no difference shown",
    }
    strong = find(compared, "Strong", PGD)
    assert (strong.before, strong.after) == pytest.approx((0.15, 0.19))
    assert strong.seeds == (0, 1, 2)
    assert strong.by_seed == pytest.approx((0.04, 0.04, 0.04))
    assert strong.test.low < strong.difference < strong.test.high


def test_the_test_is_over_users_with_seeds_averaged(shop):
    found = find(comparisons(shop, seed=5), "Idle", None)
    sides = [
        sum(unpack(e["clean"]["per_user"]["recall@20"]).astype(float) for e in shop if e["defense"] == name) / 3
        for name in ("none", "Idle")
    ]
    expected = paired_bootstrap(*sides, seed=5)
    assert (found.test.p, found.test.users) == (expected.p, 400)
    assert (found.test.low, found.test.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_family_is_a_data_set_and_a_setting(shop, entry, with_users):
    other = [with_users(entry("GRCN", d, 0, c, dataset="toys")) for d, c in (("none", 0.3), ("Strong", 0.25))]
    compared = comparisons([*shop, *other])
    for setting in (None, PGD):
        family = [c for c in compared if (c.dataset, c.setting) == ("hm", setting)]
        assert [c.corrected for c in family] == holm([c.test.p for c in family])
    alone = next(c for c in compared if c.dataset == "toys")
    assert alone.corrected == alone.test.p


def test_only_shared_seeds_count(shop, entry, with_users):
    late = with_users(entry("GRCN", "Late", 2, 0.25))
    never = with_users(entry("GRCN", "Never", 7, 0.25))
    compared = comparisons([*shop, late, never])
    assert find(compared, "Late", None).seeds == (2,)
    missing = find(compared, "Never", None)
    assert (missing.seeds, missing.test, missing.verdict) == ((), None, "not tested")
    assert missing.untested == "no seed in common"
    assert (missing.before, missing.after) == pytest.approx((0.3, 0.25))


def test_without_values_per_user_nothing_is_guessed(entry, with_users):
    old = [entry("GRCN", "none", 0, 0.3), entry("GRCN", "Strong", 0, 0.1)]
    (found,) = comparisons(old)
    assert (found.verdict, found.corrected, found.untested) == ("not tested", None, "no values of Recall@20 per user")
    assert found.difference == pytest.approx(-0.2)
    half = [with_users(entry("GRCN", "none", 0, 0.3)), entry("GRCN", "Strong", 0, 0.1)]
    assert comparisons(half)[0].verdict == "not tested"
    assert comparisons([with_users(e) for e in old], "ndcg@20")[0].untested == "no values of NDCG@20 per user"
    for e in (unknown := [with_users(e) for e in old]):
        del e["provenance"]["data_hash"]
    assert comparisons(unknown)[0].untested == "the hash of the data is missing"


def test_other_data_are_never_paired(shop):
    shop[1]["provenance"]["data_hash"] = "d2"
    with pytest.raises(CheckpointError, match="other data"):
        comparisons(shop)


def test_other_numbers_of_users_are_an_error(shop, entry, with_users):
    with pytest.raises(CheckpointError, match=r"Odd on hm, clean: values of \[399, 400\] users"):
        comparisons([*shop, with_users(entry("GRCN", "Odd", 0, 0.3), users=399)])


def test_what_is_identical_needs_no_test_and_no_correction(shop, entry, with_users):
    twin = entry("GRCN", "Twin", 0, 0.3)
    twin["clean"] = next(e for e in shop if e["defense"] == "none" and e["seed"] == 0)["clean"]
    compared = comparisons([*shop, twin])
    found = find(compared, "Twin", None)
    assert found.identical
    assert (found.test.p, found.corrected, found.verdict) == (1.0, 1.0, "no difference shown")
    family = [c for c in compared if c.setting is None and not c.identical]
    assert [c.corrected for c in family] == holm([c.test.p for c in family])


def planted_pairs(count, users, monkeypatch=None):
    """Pairs of which every tenth has a difference, and a list of the numbers of draws with which they are tested."""
    rng = np.random.default_rng(0)
    draws = []

    def bootstrap(differences, **options):
        draws.append(options["resamples"])
        return bootstrap_means(differences, **options)

    if monkeypatch is not None:
        monkeypatch.setattr(pairing, "bootstrap_means", bootstrap)
    pairs = []
    for k in range(count):
        values = rng.normal(0.5 if k % 10 == 0 else 0.0, 1, users)
        one = Comparison(
            "recall@20", "hm", "GRCN", f"D{k}", None, (0,), 0.0, float(values.mean()), (float(values.mean()),)
        )
        pairs.append(Pair(one, users, lambda values=values: values))
    return pairs, draws


def test_large_families_show_real_differences_with_no_endless_draws(monkeypatch):
    pairs, draws = planted_pairs(900, 200, monkeypatch)
    monkeypatch.setattr(pairing, "_MOST_DRAWS", 2000)
    # No count of 2000 draws is below 1 / 2001, and 900 of these would never be below 0.05 together.
    found = judged(pairs, lambda _: None, resamples=99, seed=0)
    assert draws == [2000]
    verdicts = [one.verdict for one in found]
    assert verdicts[::10].count("better") > 80
    assert sum(verdict != "no difference shown" for k, verdict in enumerate(verdicts) if k % 10) <= 1


def test_families_are_drawn_together_and_corrected_apart(monkeypatch):
    pairs, draws = planted_pairs(6, 50, monkeypatch)
    found = judged(pairs, lambda one: one.defense in ("D0", "D1"), resamples=300, seed=0)
    assert draws == [300]
    for family in (found[:2], found[2:]):
        assert [one.corrected for one in family] == holm([one.test.p for one in family])
    # Asked for more than the cap, it draws as many as it is asked for; a family of 300 gets more than it is asked for.
    judged(pairs, lambda _: None, resamples=25_000, seed=0)
    judged(planted_pairs(300, 20)[0], lambda _: None, resamples=100, seed=0)
    assert draws == [300, 25_000, 12_000]


def test_models_without_an_undefended_twin_and_unknown_names(shop, entry, with_users):
    assert comparisons([entry("VBPR", "Strong")]) == []
    assert comparisons([]) == []
    with pytest.raises(ConfigError, match="did you mean 'recall@20'"):
        comparisons(shop, "recal@20")
    assert {c.setting for c in comparisons(shop, settings=[PGD])} == {None, PGD}


def test_table(shop):
    shop[1]["attacks"][0]["flags"] = {"zero_gradient": "no gradient in 97 % of the items"}
    shop[0]["attacks"][0]["flags"] = {"stale_cache": "the same scores"}
    shop[2]["attacks"][0]["flags"] = {"graph_path_only": "explains, and casts no doubt"}
    compared = comparisons(shop, settings=[PGD])
    assert set(find(compared, "Idle", PGD).doubts) == {"stale_cache (without a defense)"}
    table = comparison_table(compared)
    names = [column.name for column in table.columns]
    rows = {row[2:4]: dict(zip(names, row, strict=True)) for row in table.rows}
    strong = rows["Strong", PGD.label]
    assert strong["Recall@20: difference"] == "+0.0400"
    assert strong["Verdict"] == "better \N{DAGGER}"
    assert (strong["Seeds"], strong["Seeds that agree"]) == ("3", "3")
    assert rows["Strong", "clean"]["Verdict"] == "worse"
    assert any("with defense Strong" in n and "zero_gradient" in n for n in table.notes)
    assert any("stale_cache (without a defense)" in n for n in table.notes)
    assert "95 % interval: low" in to_csv(table).splitlines()[0]
    assert not any("Not tested" in note for note in table.notes)


def test_seeds_that_disagree_are_seen(entry, with_users):
    made = [with_users(entry("GRCN", "none", seed, 0.3)) for seed in range(3)]
    made += [with_users(entry("GRCN", "Lucky", seed, clean)) for seed, clean in enumerate((0.6, 0.2, 0.2))]
    compared = comparisons(made)
    assert compared[0].by_seed == pytest.approx((0.3, -0.1, -0.1))
    table = comparison_table(compared)
    place = [column.name for column in table.columns].index("Seeds that agree")
    assert table.rows[0][place - 1 : place + 1] == ("3", "1")


def test_table_says_what_was_not_tested_and_how_few_seeds(entry, with_users):
    made = [with_users(entry("GRCN", d, 0, c)) for d, c in (("none", 0.3), ("Strong", 0.25))]
    notes = comparison_table(comparisons([*made, entry("GRCN", "Old", 0)])).notes
    assert any(n.startswith("With 1 seed,") for n in notes)
    assert any("no values of Recall@20 per user): GRCN with defense Old on hm, clean" in n for n in notes)


def test_a_difference_counts_only_below_the_level():
    def one(difference, corrected):
        test = PairedTest(difference, 0.0, 0.0, 0.01, 9)
        return Comparison(
            "recall@20", "hm", "GRCN", "X", None, (0,), 0.2, 0.2 + difference, (difference,), test, corrected
        ).verdict

    assert [one(0.1, 0.049), one(-0.1, 0.049), one(0.1, 0.05)] == ["better", "worse", "no difference shown"]
    assert judged([], lambda c: None, resamples=10, seed=0) == []


def with_steps(entry):
    first, *others = entry["attacks"]
    return entry | {"attacks": [first | {"arguments": {"steps": 10}}, *others]}


def test_a_test_outlives_the_values_that_it_was_made_from(shop, entry, tmp_path):
    """With the correction of the family, and only for the means that it was made of."""
    whole = comparisons(shop)
    write_tests(tmp_path / "tests.json", paired_tests(whole))
    known = read_tests(tmp_path / "tests.json")
    bare = [without_users(e) for e in shop]
    assert {c.verdict for c in comparisons(bare)} == {"not tested"}
    again = comparisons(bare, known=known)
    assert again == whole
    assert to_csv(comparison_table(again)) == to_csv(comparison_table(whole))
    # Beside the same attack with other arguments the setting has another name.
    longer = [entry("VBPR", "none", seed, 0.3, {VISUAL: 0.5}) for seed in range(3)]
    for each in longer:
        each["attacks"][0]["arguments"] = {"steps": 50}
    for each in bare:
        each["attacks"][0]["arguments"] = {"steps": 10}
    renamed = comparisons([*bare, *longer], known=paired_tests(comparisons([with_steps(e) for e in shop])))
    assert {c.setting.attack for c in renamed if c.setting is not None} == {"PGD (steps=10)", "Noise"}
    assert all(c.test is not None for c in renamed)
    bare = [without_users(e) for e in shop]
    bare[0]["clean"]["metrics"]["recall@20"] += 0.001
    changed = comparisons(bare, known=known)
    assert {c.verdict for c in changed if c.setting is None} == {"not tested"}
    assert [c for c in changed if c.setting is not None] == [c for c in whole if c.setting is not None]
    assert comparisons(bare, "ndcg@20", known=known)[0].verdict == "not tested"


def test_without_a_file_nothing_is_known_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "tests.json"
    assert read_tests(path) == {}
    write_tests(path, {("recall@20", "hm", "GRCN", "X", "a1", (0,), 0.2, 0.3): PairedTest(0.1, 0.0, 0.2, 0.01, 9)})
    sound = path.read_text()
    assert list(read_tests(path).values()) == [PairedTest(0.1, 0.0, 0.2, 0.01, 9)]
    damaged = [sound.replace("0.01", '"no"'), sound.replace('"before": 0.2', '"before": "x"')]
    assert sound not in damaged
    for text in ("{", '["x"]', '[{"metric": "recall@20"}]', "3", *damaged):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"tests\.json"):
            read_tests(path)


def test_what_tables_and_the_page_show_is_compared(shop, entry, with_users):
    """All settings where they are few, else the strongest at the smallest budget on each set of modalities."""
    assert {c.setting for c in shown_comparisons(shop)} == {c.setting for c in comparisons(shop)}
    attacks = {(name, "visual", budget): 0.5 for name in ("PGD", "SingleStep") for budget in (0.05, 0.2)}
    many = [
        with_users(entry("GRCN", defense, 0, 0.3, attacks | {VISUAL: kept}))
        for defense, kept in (("none", 0.4), ("Strong", 0.9))
    ]
    assert {c.setting for c in shown_comparisons(many)} == {None, *choose_settings(summarize(many))}
