"""What was done differently."""

from __future__ import annotations

from mmgraph_robust.reporting.changes import Change, differences, later_attacks, shown
from mmgraph_robust.reporting.pairing import parts_of

VISUAL = ("PGD", "visual", 0.05)


def changed(first, second):
    measured = [{s: by_seed[0] for s, by_seed in parts_of([e], "recall@20").items()} for e in (first, second)]
    return {key: (before, after) for key, before, after in differences([first, second], measured)}


def test_keys_that_differ_are_named_one_by_one(entry):
    first, second = entry(kept={VISUAL: 0.5}), entry(kept={VISUAL: 0.5})
    assert changed(first, second) == {}
    first["config"] = {"training": {"learning_rate": 0.001, "batch_size": 8}, "model": {"routing": None, "k": [10]}}
    second["config"] = {"training": {"learning_rate": 0.003, "batch_size": 8}, "model": {"k": [10, 20]}}
    second["provenance"] = first["provenance"] | {"commit": "def", "torch": "2.14", "created": "2026-02-02"}
    first["attacks"][0]["arguments"], second["attacks"][0]["arguments"] = {"steps": 10}, {"steps": 20}
    assert changed(first, second) == {
        "training.learning_rate": (0.001, 0.003),
        "model.routing": (None, "\N{EN DASH}"),
        "model.k": ([10], [10, 20]),
        "commit": ("abc", "def"),
        "torch": ("2.13", "2.14"),
        "attacks.PGD.steps": (10, 20),
    }


def test_attacks_that_one_does_not_have_are_no_change(entry):
    first, second = entry(kept={VISUAL: 0.5}), entry()
    first["attacks"][0]["arguments"] = {"steps": 10}
    assert changed(first, second) == {}


def test_targets_are_told_for_each_setting(entry):
    kept = {("PGD", "visual", 0.05): 0.5, ("PGD", "textual", 0.05): 0.5}
    first, second = entry(kept=kept), entry(kept=kept)
    for place in range(2):
        first["attacks"][place]["items"] = second["attacks"][place]["items"] = [place, 8]
    assert changed(first, second) == {}
    second["attacks"][0]["items"] = [7, 8]
    for attack in second["attacks"]:
        attack["goal"] = {"name": "Hide", "items": [3]}
    found = changed(first, second)
    assert found["attacks.PGD.items"] == ([0, 8], [7, 8])
    assert found["attacks.PGD.goal.items"] == ("\N{EN DASH}", [3])


def test_attacks_by_other_code_than_the_training(entry):
    kept = {("PGD", "visual", 0.05): 0.5, ("SingleStep", "visual", 0.05): 0.5}
    first, second = entry(kept=kept), entry(kept=kept)
    assert later_attacks([first, second]) == ""
    second["attacks"][1]["provenance"] = second["provenance"] | {"commit": "def", "created": "2027-01-01"}
    assert changed(first, second) == {"attacks.SingleStep.commit": ("abc", "def")}
    assert later_attacks([first, second]) == (
        "1 of 4 attacks by other code than the training, or elsewhere: commit abc -> def"
    )
    # The training of both is by that code as well: nothing is told twice.
    first["provenance"] = first["provenance"] | {"commit": "old"}
    first["attacks"][0]["provenance"] = first["provenance"] | {"commit": "abc"}
    first["attacks"][1]["provenance"] = first["provenance"] | {"commit": "def"}
    assert changed(first, second) == {"commit": ("old", "abc")}


def test_values_in_few_characters():
    long = [shown([*range(9), last]) for last in (9, 10)]
    assert long[0].startswith("10 values (")
    assert long[0] != long[1]
    commit = "8da9fb81956976e0d1c3ba5d7a9a39b6f7e4c2d1"
    assert shown(commit + " with uncommitted changes") == "8da9fb819569 with uncommitted changes"
    assert shown("81cd3fe8f28f" + "0" * 52) == "81cd3fe8f28f"
    assert [shown(value) for value in (None, 0.001, [1, 2], "x")] == ["null", "0.001", "[1, 2]", "x"]
    assert str(Change("training.learning_rate", 0.001, 0.003, ())) == "training.learning_rate 0.001 -> 0.003"
