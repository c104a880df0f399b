"""What was done differently."""

from __future__ import annotations

from mmgraph_robust.reporting.changes import Change, differences, shown
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


def test_values_in_few_characters():
    commit = "8da9fb81956976e0d1c3ba5d7a9a39b6f7e4c2d1"
    assert shown(commit + " with uncommitted changes") == "8da9fb819569 with uncommitted changes"
    assert shown("81cd3fe8f28f" + "0" * 52) == "81cd3fe8f28f"
    assert [shown(value) for value in (None, 0.001, [1, 2], "x")] == ["null", "0.001", "[1, 2]", "x"]
    assert str(Change("training.learning_rate", 0.001, 0.003, ())) == "training.learning_rate 0.001 -> 0.003"
