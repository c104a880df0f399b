"""Reading, checking and putting together what was written."""

from __future__ import annotations

import math

import pytest
import torch

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.reporting import ReportWarning, check_entry, read_entries, read_files, summarize
from mmgraph_robust.reporting.entries import add_attacks, is_undefended
from mmgraph_robust.utils import pack, write_json

VISUAL = ("PGD", "visual", 0.05)
OUTCOME = {"name": "PGD", "kind": "iterated", "setting": "s", "budget": 0.05, "clean": 0.2, "gain": 0.1}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 3, "schema"),
        (("schema",), 2, "'key' expects a hash"),
        (("model",), None, "'model'"),
        (("seed",), "0", "'seed'"),
        (("feature_path",), "magic", "'feature_path'"),
        (("clean", "metrics"), {}, "'clean.metrics' is empty"),
        (("clean", "margins"), {"id": "x"}, "'clean.margins'"),
        (("training", "epochs"), "x", "'training.epochs'"),
        (("attacks",), None, "'attacks'"),
        (("attacks", 0, "budget"), -1, "budget"),
        (("attacks", 0, "modalities"), [], "modalities"),
        (("attacks", 0, "place"), "first", "place"),
        (("attacks", 0, "flags"), ["stale_cache"], "flags"),
        (("attacks", 0, "flags"), {"stale_cache": 1}, "flags"),
        (("attacks", 0, "provenance"), "abc", "provenance"),
        (("attacks", 0, "outcome"), "PGD", "outcome"),
        (("attacks", 0, "outcome"), {"name": "PGD"}, r"outcome' expects \['budget'"),
        (("attacks", 0, "outcome"), OUTCOME | {"newer": 1}, r"outcome' expects \['budget'"),
        (("attacks", 0, "outcome"), OUTCOME | {"gain": "much"}, "outcome.gain' expects a number"),
        (("attacks", 0, "outcome"), OUTCOME | {"kind": 1}, "outcome.kind' expects a text"),
        (("attacks", 0, "per_user"), ["recall@20"], "attacks.0..per_user' expects an object"),
        (("clean", "per_user"), {"recall@20": 0.5}, "clean.per_user' expects an object"),
        (("clean", "per_user"), {"recall@20": "damaged"}, "clean.per_user.recall@20': packed numbers are damaged"),
        (("clean", "per_user"), {"recall@20": pack(torch.tensor([math.nan]))}, "per_user.recall@20' holds"),
        (("attacks", 0, "metrics"), {"other": 1.0}, "metrics of 'clean'"),
        (("clean", "metrics", "recall@20"), float("nan"), "finite"),
    ],
)
def test_what_is_wrong_is_named(entry, path, value, message):
    result = place = entry(kept={VISUAL: 0.7})
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(CheckpointError, match=message):
        check_entry(result)


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_no_object_is_no_entry(value):
    with pytest.raises(CheckpointError, match="JSON object"):
        check_entry(value)


def test_damaged_foreign_and_repeated_files_are_skipped_by_name(tmp_path, entry):
    write_json(tmp_path / "a.json", entry())
    write_json(tmp_path / "again.json", entry())
    write_json(tmp_path / "foreign.json", {"hello": 1})
    (tmp_path / "torn.json").write_text('{"schema": 1,')
    with pytest.warns(ReportWarning) as caught:
        entries = read_entries(tmp_path)
    assert len(entries) == 1
    text = [str(warning.message) for warning in caught]
    assert len(text) == 3
    assert all(any(f"'{name}'" in line for line in text) for name in ("again.json", "foreign.json", "torn.json"))
    with pytest.raises(CheckpointError, match="no such folder"):
        read_entries(tmp_path / "none")


def attacked(entry, attack, gain, kind, key, **changes):
    """A file of one attack on the model of training ``t``."""
    file = entry(kept={(attack, "visual", 0.05): 1 - gain}, schema=2, key=key, trained="t", **changes)
    (one,) = file["attacks"]
    one["flags"] = {"mine": "said by the attack"}
    one["outcome"] = OUTCOME | {"name": attack, "kind": kind, "gain": 0.2 * gain}
    return file


@pytest.mark.parametrize(
    "wrong",
    [
        {"flags": None},
        {"outcome": OUTCOME | {"newer": 1}},
        {"per_user": 7},
        {"per_user": {"recall@20": "damaged"}},
    ],
)
def test_a_foreign_attack_does_not_stop_the_report(tmp_path, entry, wrong):
    write_json(tmp_path / "a.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    foreign = attacked(entry, "SingleStep", 0.1, "single", "b")
    foreign["attacks"][0] |= wrong
    if wrong == {"flags": None}:
        del foreign["attacks"][0]["flags"]
    write_json(tmp_path / "b.json", foreign)
    with pytest.warns(ReportWarning, match=r"'b\.json'.*attacks\[0\]\." + next(iter(wrong))):
        (whole,) = read_entries(tmp_path)
    assert [attack["attack"] for attack in whole["attacks"]] == ["PGD"]


def test_an_attack_keeps_its_provenance_where_it_is_another(tmp_path, entry):
    training = entry(schema=2, key="t", trained="t")
    write_json(tmp_path / "t.json", training)
    for name, change in (("a", {"created": "2027-01-01"}), ("b", {"commit": "def", "created": "2027-01-01"})):
        file = attacked(entry, f"Attack{name}", 0.1, "iterated", name)
        write_json(tmp_path / f"{name}.json", file | {"provenance": training["provenance"] | change})
    (whole,) = read_entries(tmp_path)
    assert whole["provenance"] == training["provenance"]
    assert {attack["attack"]: attack.get("provenance", {}).get("commit") for attack in whole["attacks"]} == {
        "Attacka": None,
        "Attackb": "def",
    }
    check_entry(whole)


def test_a_training_is_put_together_with_its_attacks_and_these_are_compared(tmp_path, entry):
    write_json(tmp_path / "a.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    write_json(tmp_path / "b.json", attacked(entry, "SingleStep", 0.4, "single", "b"))
    write_json(tmp_path / "t.json", entry(schema=2, key="t", trained="t"))
    (whole,) = read_entries(tmp_path)
    assert whole["key"] == "t"
    flags = {attack["attack"]: set(attack["flags"]) for attack in whole["attacks"]}
    assert flags == {"PGD": {"mine", "weaker_than_single_step"}, "SingleStep": {"mine"}}
    (part,) = read_entries(tmp_path, files={"t.json", "b.json"})
    assert [attack["attack"] for attack in part["attacks"]] == ["SingleStep"]


def test_an_attack_can_be_read_before_its_training_is_there(tmp_path, entry):
    write_json(tmp_path / "a.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    (whole,) = read_entries(tmp_path)
    assert len(whole["attacks"]) == 1


def test_an_attack_on_another_training_is_not_mixed_in(tmp_path, entry):
    write_json(tmp_path / "a.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    write_json(tmp_path / "b.json", attacked(entry, "Noise", 0.1, "control", "b") | {"trained": "other"})
    write_json(tmp_path / "c.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    with pytest.warns(ReportWarning) as caught:
        (whole,) = read_entries(tmp_path)
    assert [attack["attack"] for attack in whole["attacks"]] == ["PGD"]
    text = [str(warning.message) for warning in caught]
    assert "'b.json': is of another training than 'a.json'" in text[0]
    assert "'c.json': repeats the key" in text[1]


def test_files_are_read_one_by_one(tmp_path, entry):
    write_json(tmp_path / "b.json", entry(schema=2, key="t", trained="t"))
    write_json(tmp_path / "a.json", attacked(entry, "PGD", 0.1, "iterated", "a"))
    (tmp_path / "torn.json").write_text("{")
    with pytest.warns(ReportWarning, match=r"torn\.json"):
        found = read_files(tmp_path)
    assert [(name, e["key"], len(e["attacks"])) for name, e in found] == [("a.json", "a", 1), ("b.json", "t", 0)]


def test_attacks_stand_in_the_order_of_the_run_and_not_of_file_names(tmp_path, entry):
    def target(seed, key, place):
        file = attacked(entry, "PGD", 0.1 + 0.1 * place, "iterated", key, seed=seed)
        file["attacks"][0] |= {"place": place, "items": [place]}
        return file

    # Names of files are hashes: in one seed the first attack comes first, in the other the second.
    for seed, names in enumerate(("ab", "ba")):
        for place, name in enumerate(names):
            write_json(tmp_path / f"{seed}{name}.json", target(seed, name, place))
    rows = {row.attack: row for row in summarize(read_entries(tmp_path))}
    assert set(rows) == {None, "PGD", "PGD #2"}
    assert rows["PGD"].mean["recall@20"] == pytest.approx(0.2 * 0.9)
    assert rows["PGD #2"].mean["recall@20"] == pytest.approx(0.2 * 0.8)


def test_old_attacks_without_a_place_come_last_as_they_come(tmp_path, entry):
    for name, place in (("a", None), ("b", 7), ("c", None), ("d", 2)):
        file = attacked(entry, f"Attack{name}", 0.1, "iterated", name)
        file["attacks"][0] |= {} if place is None else {"place": place}
        write_json(tmp_path / f"{name}.json", file)
    (whole,) = read_entries(tmp_path)
    assert [attack["attack"][-1] for attack in whole["attacks"]] == ["d", "b", "a", "c"]


@pytest.mark.parametrize(
    ("label", "config", "expected"),
    [
        ("none", {}, True),
        ("plain", {}, False),
        ("plain", {"defense": {"name": "none", "label": "plain"}}, True),
        ("none", {"defense": {"name": "APR", "label": "none"}}, False),
        ("none", {"defense": None}, True),
        ("none", None, True),
    ],
)
def test_the_configuration_knows_of_no_defense_better_than_the_label(entry, label, config, expected):
    assert is_undefended(entry(defense=label, config=config)) is expected


def test_only_attacks_on_the_very_same_model_are_added(entry):
    def made(*kept, trained="t", weights="w", version="1"):
        one = entry(kept={(name, "visual", 0.05): 0.5 for name in kept}, schema=2, key=trained, trained=trained)
        one["training"] |= {"weights": weights}
        return one | {"provenance": one["provenance"] | {"version": version}}

    own = made("PGD")
    both = add_attacks(own, made("PGD", "Noise", version="2"))
    check_entry(both)
    assert [attack["attack"] for attack in both["attacks"]] == ["PGD", "Noise"]
    # Where it comes from is not lost.
    assert [attack.get("provenance", both["provenance"])["version"] for attack in both["attacks"]] == ["1", "2"]
    third = add_attacks(made("MIM", version="3"), both)
    assert [attack["provenance"]["version"] for attack in third["attacks"][1:]] == ["1", "2"]
    for other in (made("Noise", trained="u"), made("Noise", weights="v"), entry(kept={("Noise", "visual", 0.05): 0.5})):
        assert add_attacks(own, other) == own
