from pathlib import Path

import pytest

import mmgraph_robust as mr
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.experiment import RunConfig, read_config, read_suite
from mmgraph_robust.experiment.cell import units
from mmgraph_robust.experiment.plan import make_plan
from mmgraph_robust.experiment.schema import check_arguments

ROOT = Path(__file__).resolve().parents[2]
BASE = {
    "name": "t", "data": {"format": "synthetic"}, "models": [{"name": "GRCN"}],
    "attacks": [{"name": "PGD"}],
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    sorted(p for room in ("run", "published") for p in (ROOT / "configs" / room).glob("*.toml")),
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_every_file_reads_and_describes_itself(path):
    config = read_config(path)
    assert RunConfig(config.describe()).describe() == config.describe()
    assert config.build_attacks(mr.synthetic(num_users=30, num_items=20)) or config.published


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "unknown key 'sedes'; did you mean 'seeds'"),
        ({"models": [{"name": "GRNC"}]}, "did you mean 'GRCN'"),
        ({"models": [{"name": "GRCN", "embeding_dim": 3}]}, r"models\.GRCN: unknown key 'embeding_dim'; did you mean"),
        ({"models": [{"name": "GRCN", "embedding_dim": "64"}]}, r"models\.GRCN\.embedding_dim"),
        ({"models": [{"name": "GRCN"}, {"name": "GRCN"}]}, "label"),
        ({"training": {"max_epoch": 3}}, "did you mean 'max_epochs'"),
        ({"models": [{"name": "GRCN", "training": {"lr": 3}}]}, r"models\.GRCN\.training: unknown key 'lr'"),
        ({"defenses": [{"name": "Balancing"}]}, "ModalityBalancing"),
        ({"defenses": [{"name": "ModalityBalancing"}]}, "sensitive is missing"),
        ({"defenses": [{"name": "ModalityBalancing", "sensitive": "auto"}]}, "undefended"),
        ({"attacks": [{"name": "PGD", "step": 3}]}, "did you mean 'steps'"),
        ({"attacks": [{"name": "PGD", "scopes": ["row"]}]}, "'item' or 'matrix'"),
        ({"data": {"format": "csv"}}, r"data\.format"),
        ({"data": {"format": "synthetic", "num_user": 3}}, "did you mean 'num_users'"),
        ({"evaluation": {"metric": "recall@7"}}, "did you mean"),
        (
            {"published": {"source": "s", "values": {"GRNC": {"recall@20": 0.1}}}},
            "published.values: .*did you mean 'GRCN'",
        ),
        ({"published": {"source": "s", "values": {"GRCN": {"recal@20": 0.1}}}}, "did you mean 'recall@20'"),
        ({"published": {"source": "s", "values": {"GRCN": {"recall@20": 10.0}}}}, "at most 1"),
        ({"published": {"values": {}}}, "published.source is missing"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0.5]}, "seeds"),
        ({"seeds": [1, 1]}, "seeds: expects different"),
        ({"seeds": [-1]}, "seeds: expects different"),
        ({"evaluation": {"k": [0]}}, r"evaluation\.k"),
        ({"attacks": [{"name": "PGD", "steps": 0}]}, r"attacks\.PGD: .*steps >= 1"),
        ({"attacks": [{"name": "PGD", "objective": "marign"}]}, "did you mean 'margin'"),
        ({"attacks": [{"name": "PGD", "labels": "all"}]}, "labels"),
        ({"defenses": [{"name": "ModalityBalancing", "sensitive": "a", "eps": -1.0}]}, "eps >= 0"),
        ({"training": {"monitor": "recal@20"}}, "training: unknown metric.*did you mean 'recall'"),
        ({"training": {"learning_rate": 0.0}}, "learning_rate > 0"),
        (
            {
                "models": [{"name": "GRCN", "label": "A-B"}, {"name": "GRCN", "label": "A"}],
                "defenses": [{"name": "none", "label": "C"}, {"name": "AdversarialTraining", "label": "B-C"}],
            },
            "share the file names",
        ),
        (
            {"defenses": [{"name": "FeatureNoise", "only": ["GRCN"]}, {"name": "FeatureNoise", "sigma": 0.5}]},
            r"\['FeatureNoise'\] occur twice for GRCN; give each a 'label' of its own, or models of its own by 'only'",
        ),
    ],
)
def test_bad_keys_and_values_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(BASE | change)


def test_what_is_no_table_is_refused():
    with pytest.raises(ConfigError, match=r"configuration: expects a table of keys \(got \[1, 2\]\)"):
        RunConfig([1, 2])


def test_a_negative_budget_is_a_budget_error():
    with pytest.raises(BudgetError, match="'budget' expects"):
        RunConfig(BASE | {"attacks": [{"name": "PGD", "budgets": [-0.1]}]})


def test_overrides(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('name = "t"\n[data]\nformat = "synthetic"\n[[models]]\nname = "GRCN"\n')
    config = read_config(path, ["training.max_epochs=3", "models.GRCN.embedding_dim=8", "data.num_users=50", "name=u"])
    assert config.training["max_epochs"] == 3
    assert config.models[0].arguments["embedding_dim"] == 8
    assert config.data["num_users"] == 50
    assert config.name == "u"
    for bad, message in (
        ("training.max_epoch=3", "max_epochs"), ("models.GCRN.reg=1", "did you mean 'GRCN'"),
        ("nothing", "key=value"), ("name.x=1", "not a section"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            read_config(path, [bad])
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "none.toml")
    for text in ("[1, 2]", "3"):
        (tmp_path / "c.json").write_text(text)
        for read in (read_config, read_suite):
            with pytest.raises(ConfigError, match=r"c\.json: expects a table of keys \(got a value of type"):
                read(tmp_path / "c.json", ["name=u"])
    path.write_text("name = ")
    with pytest.raises(ConfigError, match=r"c\.toml is not valid toml"):
        read_config(path)


def test_a_defense_with_settings_of_its_own_for_each_model(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'name = "t"\n[data]\nformat = "synthetic"\n[[models]]\nname = "GRCN"\n[[models]]\nname = "VBPR"\n'
        '[[models]]\nname = "VBPR"\nlabel = "wide"\nembedding_dim = 32\n'
        '[[defenses]]\nname = "FeatureNoise"\nonly = ["GRCN"]\nsigma = 0.5\n'
        '[[defenses]]\nname = "FeatureNoise"\nonly = ["VBPR"]\nsigma = 0.1\n'
    )
    config = read_config(path, ["models.VBPR.embedding_dim=16"])
    assert [m.arguments["embedding_dim"] for m in config.models[1:]] == [16, 32]
    # Read back, it is the same run.
    assert RunConfig(config.describe()).describe() == config.describe()
    made = {(u.model.label, u.defense.label): u.defense.arguments["sigma"] for u in units(config, config.build_data())}
    assert made == {("GRCN", "FeatureNoise"): 0.5, ("VBPR", "FeatureNoise"): 0.1}
    with pytest.raises(ConfigError, match="2 entries are called 'FeatureNoise': change them in the file"):
        read_config(path, ["defenses.FeatureNoise.sigma=0.2"])


def test_modality_sets():
    config = RunConfig(BASE | {"attacks": [{"name": "PGD", "budgets": [0.1, 0.2], "scopes": ["item", "matrix"]}]})
    world = {"num_users": 30, "num_items": 20}
    assert len(config.build_attacks(mr.synthetic(**world))) == 3 * 2 * 2
    assert len(config.build_attacks(mr.synthetic(**world, modalities={"a": 4}))) == 4
    assert config.build_attacks(mr.synthetic(**world, modalities={})) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": [{"name": "GRCN", "embedding_dim": 0}]}, r"models\.GRCN: .*embedding_dim >= 1"),
        ({"defenses": [{"name": "ModalityBalancing", "sensitive": "visul"}]}, "did you mean 'visual'"),
        ({"defenses": [{"name": "ModalityBalancing", "sensitive": ["textual", "visul"]}]}, "did you mean 'visual'"),
        ({"defenses": [{"name": "AdversarialTraining", "modalities": ["sound"]}]}, "unknown modality 'sound'"),
        ({"attacks": [{"name": "PGD", "items": [9999]}]}, r"attacks\.PGD: 'items' expects ids .*got \[9999\]"),
        ({"attacks": [{"name": "PGD", "goals": [{"users": [9999]}]}]}, r"attacks\.PGD: 'users' expects ids from 0"),
        ({"attacks": [{"name": "PGD", "goals": [{"name": "Hide", "items": [9999]}]}]}, r"PGD: 'items' expects ids"),
    ],
)
def test_what_does_not_fit_the_data_is_said_before_training(change, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(BASE | change).build_data()


@pytest.mark.parametrize(
    ("model", "defense", "message"),
    [
        (
            {"name": "VBPR", "modalities": ["textual"]},
            {"name": "ModalityBalancing", "sensitive": "visual"},
            r"defenses\.ModalityBalancing, with VBPR: unknown modality 'visual'.*say which models it goes with: only",
        ),
        ({"name": "FREEDOM"}, {"name": "ListwiseAdversarialTraining"}, "with FREEDOM: the features of .* do not reach"),
        ({"name": "FREEDOM"}, {"name": "ModalityBalancing", "sensitive": "auto"}, "FREEDOM: .*do not reach"),
    ],
)
def test_a_defense_that_does_not_go_with_a_model_is_refused_before_training(model, defense, message):
    values = BASE | {"models": [model], "defenses": [{"name": "none"}, defense]}
    values["data"] = {"format": "synthetic", "num_users": 60, "num_items": 40}
    with pytest.raises(ConfigError, match=message):
        make_plan(RunConfig(values))


def test_a_defense_of_a_package_that_breaks_in_its_setup_waits_for_its_turn(monkeypatch):
    def broken(*_):
        raise KeyError("of another package")

    monkeypatch.setattr(mr.defenses.FeatureNoise, "setup", broken)
    values = BASE | {"models": [{"name": "VBPR"}], "defenses": [{"name": "none"}, {"name": "FeatureNoise"}]}
    assert len(make_plan(RunConfig(values)).units) == 2


def test_the_undefended_model_may_have_another_label():
    config = RunConfig(BASE | {"defenses": [{"name": "none", "label": "plain"},
                                            {"name": "ModalityBalancing", "sensitive": "auto"}]})  # fmt: skip
    assert [defense.label for defense in config.defenses] == ["plain", "ModalityBalancing"]


def test_what_a_signature_calls_a_tuple_is_a_list_in_a_file():
    config = RunConfig(BASE | {"attacks": [{"name": "GraphRelaxation", "temperature": [0.8, 0.2]}, {"name": "PGD"}]})
    ((attack, _), *_) = config.build_attacks(mr.synthetic(num_users=30, num_items=20))
    assert attack.temperature == (0.8, 0.2)
    assert RunConfig(config.describe()).describe() == config.describe()
    with pytest.raises(ConfigError, match="temperature"):
        RunConfig(BASE | {"attacks": [{"name": "GraphRelaxation", "temperature": [0.8]}]})


def test_arguments_without_a_type_are_taken_as_they_are():
    def read(size=60, *, name: str = "x"):
        return size, name

    assert check_arguments(read, {"size": 3}, "data") == {"size": 3, "name": "x"}
    with pytest.raises(ConfigError, match="name"):
        check_arguments(read, {"name": 3}, "data")
