import json
from pathlib import Path

import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import Suite, cell, config, read_suite
from mmgraph_robust.experiment.run import make_plan

ROOT = Path(__file__).resolve().parents[2]
SHOP = {"format": "synthetic", "num_users": 60, "num_items": 40}
TWO = {
    "name": "two", "seeds": [0, 1], "data": {"a": SHOP, "b": SHOP | {"seed": 3}},
    "training": {"max_epochs": 2},
    "models": [
        {"name": "VBPR", "training": {"batch_size": 64}, "on": {"b": {"reg": 2.0, "training": {"patience": 3}}}}
    ],
    "defenses": [{"name": "none"}, {"name": "FeatureNoise", "on": {"a": {"sigma": 0.5}}}],
    "attacks": [{"name": "Noise", "modalities": ["all"]}],
}  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "suites").glob("*.toml")), ids=lambda p: p.stem)
def test_every_suite_is_sound_and_says_how_it_was_tuned(path):
    suite = read_suite(path)
    assert suite.name == path.stem
    assert {"Tuning"} <= set(suite.about)
    assert all(config.defenses[0].name == "none" for config in suite.runs.values())


def test_what_differs_on_a_data_set():
    a, b = Suite(TWO).runs.values()
    assert (a.models[0].arguments["reg"], b.models[0].arguments["reg"]) != (2.0, 2.0)
    assert b.models[0].arguments["reg"] == 2.0
    assert (a.models[0].training, b.models[0].training) == ({"batch_size": 64}, {"batch_size": 64, "patience": 3})
    assert a.defenses[1].arguments["sigma"] == 0.5 != b.defenses[1].arguments["sigma"]
    assert (a.name, b.name) == ("a", "b")


def test_the_command_line_has_the_last_word(tmp_path):
    path = tmp_path / "two.json"
    path.write_text(json.dumps(TWO))
    changes = ["models.VBPR.reg=5.0", "models.VBPR.training.patience=7", "defenses.FeatureNoise.on.a.sigma=0.1"]
    a, b = read_suite(path, changes).runs.values()
    assert (a.models[0].arguments["reg"], b.models[0].arguments["reg"]) == (5.0, 5.0)
    assert a.models[0].training == b.models[0].training == {"batch_size": 64, "patience": 7}
    assert a.defenses[1].arguments["sigma"] == 0.1 != b.defenses[1].arguments["sigma"]


def test_the_command_line_has_the_last_word_in_tables_within_entries(tmp_path):
    path = tmp_path / "two.json"
    models = [{"name": "VBPR", "on": {"b": {"feature_scale": {"textual": 2.0}}}}]
    path.write_text(json.dumps(TWO | {"models": models}))

    def scales(*changes):
        return [run.models[0].arguments["feature_scale"] for run in read_suite(path, changes).runs.values()]

    one = "models.VBPR.feature_scale.visual=0.1"
    assert scales(one) == [{"visual": 0.1}, {"textual": 2.0, "visual": 0.1}]
    whole, on_one = "models.VBPR.feature_scale={visual = 0.1}", "models.VBPR.on.b.feature_scale.visual=0.2"
    assert scales(whole) == [{"visual": 0.1}] * 2
    assert scales(whole, on_one) == [{"visual": 0.1}, {"visual": 0.2}]


def test_the_command_line_sets_the_training_of_all(tmp_path):
    path = tmp_path / "two.json"
    models = [
        {"name": "VBPR", "training": {"max_epochs": 30}, "on": {"b": {"training": {"max_epochs": 40, "patience": 9}}}},
        {"name": "GRCN", "training": {"batch_size": 64}},
    ]  # fmt: skip
    path.write_text(json.dumps(TWO | {"models": models}))

    def epochs(*changes):
        runs = read_suite(path, changes).runs.values()
        return [(run.training | m.training)["max_epochs"] for run in runs for m in run.models]

    assert epochs("training.max_epochs=7") == epochs("training={max_epochs = 7}") == [7] * 4
    # The last word is the last one.
    assert epochs("training.max_epochs=7", "models.VBPR.training.max_epochs=8") == [8, 7, 8, 7]
    for change in ("training.max_epochs=7", "training={max_epochs = 7, eval_every = 2}"):
        (_, b) = read_suite(path, [change]).runs.values()
        assert b.models[0].training == {"max_epochs": 7, "patience": 9}
        assert b.models[1].training == {"batch_size": 64}
    with pytest.raises(ConfigError, match="training: input should be a valid dictionary .got 7"):
        read_suite(path, ["training=7"])


def test_cells_are_named_by_what_makes_them():
    plan = make_plan(Suite(TWO))
    assert len(plan.units) == 8
    assert len(plan.files) == 16
    # What is stopped has compared something.
    assert [unit.seed for unit in plan.units] == [0] * 4 + [1] * 4
    assert len(plan.waves) == 1
    again = make_plan(Suite(TWO | {"name": "other", "about": {"Tuning": "none"}}))
    assert again.files == plan.files
    more = make_plan(Suite(TWO | {"seeds": [0, 1, 2], "attacks": [*TWO["attacks"], {"name": "PGD"}]}))
    assert more.files > plan.files
    longer = make_plan(Suite(TWO | {"training": {"max_epochs": 3}}))
    assert not longer.files & plan.files


def test_what_an_attack_found_is_named_by_the_version_of_attacks(monkeypatch):
    asks = {"name": "ModalityBalancing", "sensitive": "auto"}
    suite = Suite(
        TWO | {"models": [{"name": "VBPR"}, {"name": "BPRMF"}], "defenses": [*TWO["defenses"], asks], "seeds": [0]}
    )

    def names():
        units = [unit for unit in make_plan(suite).units if unit.dataset == "a"]
        return {(u.model.label, u.defense.label): (u.weights, u.training.key) for u in units}

    before = names()
    monkeypatch.setattr(cell, "ATTACK_VERSION", cell.ATTACK_VERSION + 1)
    after = names()
    weights = {label for label in before if before[label][0] != after[label][0]}
    trainings = {label for label in before if before[label][1] != after[label][1]}
    assert weights == {("VBPR", "ModalityBalancing")}
    assert trainings == {("VBPR", "none"), ("VBPR", "ModalityBalancing")}
    assert set(before) - trainings == {("VBPR", "FeatureNoise"), ("BPRMF", "none")}


def test_a_reader_of_a_package_that_breaks_costs_no_other_data_set(monkeypatch):
    def broken():
        raise KeyError("column")

    monkeypatch.setattr(config, "plugins", lambda group: {"mine": None})
    monkeypatch.setattr(config, "load_plugin", lambda point: broken)
    plan = make_plan(Suite(TWO | {"data": TWO["data"] | {"c": {"format": "mine"}}}))
    assert list(plan.runs) == ["a", "b"]
    assert plan.failed == ["c: DataError: data.format: the reader 'mine' broke: KeyError: 'column'"]


def test_those_that_others_look_at_come_first():
    asks = {"name": "ModalityBalancing", "sensitive": "auto"}
    plan = make_plan(Suite(TWO | {"defenses": [{"name": "none"}, asks]}))
    first, second = plan.waves
    assert {unit.defense.label for unit in first} == {"none"}
    assert {unit.defense.label for unit in second} == {"ModalityBalancing"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {}}, "data"),
        ({"name": ""}, "name expects letters"),
        ({"name": "../x"}, "name expects letters"),
        ({"moddels": []}, "did you mean 'models'"),
        ({"models": [{"name": "VBPR", "on": {"c": {}}}]}, "models.VBPR.on: unknown data set 'c'"),
        ({"models": [{"name": "VBPR", "on": {"a": 3}}]}, "expects a table for each data set"),
        ({"models": [{"name": "VBPR", "on": {"b": {"rge": 1.0}}}]}, "on b: models.VBPR: unknown key 'rge'"),
    ],
)
def test_what_does_not_fit_is_told(change, message):
    with pytest.raises(ConfigError, match=message):
        Suite(TWO | change)


def test_a_modality_that_one_data_set_lacks_is_refused():
    heard = SHOP | {"modalities": {"visual": 6, "acoustic": 5}}
    suite = Suite(TWO | {"data": {"a": heard, "b": SHOP}, "attacks": [{"name": "Noise", "modalities": ["acoustic"]}]})
    with pytest.raises(ConfigError, match="on b: attacks.Noise: unknown modality 'acoustic'"):
        make_plan(suite)


def test_a_suite_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert read_suite("smoke", ["seeds=[7]"]).runs["shop"].seeds == [7]
    with pytest.raises(ConfigError, match=r"unknown suite 'smok'; did you mean 'smoke'.*path of a \.toml file"):
        read_suite("smok")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="known: none"):
        read_suite("smoke")
