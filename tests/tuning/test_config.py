import re
from pathlib import Path
from typing import ClassVar

import optuna
import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import component
from mmgraph_robust.models import VBPR
from mmgraph_robust.tuning import StudyConfig, read_study
from mmgraph_robust.tuning.config import renew
from mmgraph_robust.tuning.settings import Hyperband
from mmgraph_robust.utils import Categorical, Float

from .conftest import TOY, change

ROOT = Path(__file__).resolve().parents[2]
BALANCING = {"name": "ModalityBalancing", "sensitive": "visual"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "study").glob("*.toml")), ids=lambda p: p.name)
def test_every_file_reads(path, hm):
    config = read_study(path, [f"data.folder={ROOT / '../shared/data/hm'}"])
    config.check_data(config.run.build_data())
    assert config.name == path.stem
    assert config.settings.trials >= (40 if config.settings.objective == "constrained" else 30)
    assert config.first() is not None


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"stduy": {}}, "unknown key 'stduy'"),
        ({"study": {"objectiv": "clean"}}, "did you mean 'objective'"),
        ({"study": {"objective": "robust"}}, r"study\.objective"),
        ({"study": {"trials": 0}}, r"study\.trials"),
        ({"study": {"trials": 2.5}}, r"study\.trials"),
        ({"study": {"max_clean_loss": 1.0}}, "max_clean_loss"),
        ({"study": {"sampler": {"name": "tep"}}}, "did you mean 'tpe'"),
        ({"study": {"sampler": {"name": "tpe", "population": 3}}}, r"study\.sampler: unknown key 'population'"),
        ({"study": {"pruner": {"name": "medain"}}}, "did you mean 'median'"),
        ({"study": {"pruner": {"name": "median", "percentile": 100.0}}}, r"study\.pruner\.percentile"),
        ({"study": {"pruner": {"name": "wilcoxon"}}}, "can never be sure"),
        ({"study": {"objective": "attacked"}, "attacks": []}, "needs an attack"),
        ({"study": {"objective": "pareto", "pruner": {"name": "median"}}}, "two objectives"),
        ({"study": {"sampler": {"name": "nsga2"}}}, "is for the objective 'pareto'"),
        ({"study": {"test_seeds": [0]}}, "test_seeds expects"),
        ({"study": {"test_seeds": [5, 5]}}, "test_seeds expects"),
        *(({"study": {"reference": bad}}, r"study\.reference") for bad in (float("nan"), float("inf"), 0.0, -0.1)),
        ({"search": {"models": {"VBPR": {"embedding_dim": {"choices": [[1, 2]]}}}}},
         r"VBPR\.embedding_dim: 'Categorical' expects text, numbers, .* \(got \[1, 2\]\)"),
        ({"search": {"modles": {}}}, "did you mean 'models'"),
        ({"search": {"models": {"VPBR": {}}}}, "unknown label 'VPBR'; did you mean 'VBPR'"),
        ({"search": {"models": {"VBPR": {"reg": {"low": -1.0, "log": False}}}}, "models": [{"name": "VBPR"}],
          "study": {"pruner": 3}}, r"study\.pruner"),
        ({"search": {"training": {"lr": True}}}, "unknown argument 'lr'"),
        ({"search": {"training": {"learning_rate": {"low": -1.0, "log": False}}}}, "learning_rate > 0"),
        ({"search": {"defenses": {"none": {"weight": True}}}}, "nothing to search"),
        ({"attacks": [{"name": "PGD", "labels": "test"}]}, "read the test split"),
        ({"models": [{"name": "LightGCN"}], "defenses": [BALANCING]}, "read no features"),
        ({"models": [{"name": "VBPR", "embedding_dim": 8, "reg": 1.0}],
          "training": {"learning_rate": 0.1, "batch_size": 8}}, "nothing is searched"),
        ({"models": [{"name": "VBPR", "training": {"learning_rate": 0.1}}],
          "search": {"training": {"learning_rate": True}}}, "search or set them"),
        ({"defenses": [BALANCING], "search": {"defenses": {"ModalityBalancing": {"unit": {"choices": ["rms", "mm"]}}}}},
         r"search\.defenses\.ModalityBalancing\.unit: .*'mm'"),
        ({"search": {"models": {"VBPR": {"embedding_dim": {"choices": [8, 8.5]}}}}}, r"VBPR\.embedding_dim"),
    ],
)  # fmt: skip
def test_bad_keys_and_values_are_named(sections, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig(change(TOY, **sections))


def test_a_range_that_a_model_does_not_take_is_said_before_the_first_trial(toy):
    config = toy(search={"models": {"VBPR": {"embedding_dim": {"choices": [8, -1]}}}})
    with pytest.raises(ConfigError, match=r"search\.models\.VBPR\.embedding_dim = -1: .*embedding_dim >= 1"):
        config.check_data(config.run.build_data())


def test_a_range_that_a_defense_does_not_take_is_said_before_the_first_trial(toy):
    config = toy(
        models=[{"name": "GRCN", "embedding_dim": 8}], defenses=[{"name": "ModalityBalancing", "sensitive": "auto"}],
        search={"models": {"GRCN": {"fusion": {"choices": ["concat", "id"]}}}},
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"GRCN\.fusion = 'id', with the defense 'ModalityBalancing': .*no score channel"
    ):
        config.check_data(config.run.build_data())


def test_wilcoxon_may_prune_before_the_last_of_enough_seeds(toy):
    toy(seeds=[0, 1, 2, 3, 4], study={"pruner": {"name": "wilcoxon"}})
    with pytest.raises(ConfigError, match="4 seeds"):
        toy(seeds=[0, 1, 2, 3], study={"pruner": {"name": "wilcoxon"}})


def two(toy):
    return toy(
        models=[{"name": "VBPR"}, {"name": "GRCN"}],
        defenses=[{"name": "none"}, {"name": "ModalityBalancing", "sensitive": "auto"}],
        study={"objective": "constrained"},
    )


def test_defenses_go_with_every_model_of_a_study(toy):
    models = [{"name": "VBPR"}, {"name": "GRCN"}]
    noise = {"name": "FeatureNoise", "only": ["VBPR", "GRCN"]}
    config = toy(models=models, defenses=[noise])
    run = config.run_config(config.defaults("GRCN", "FeatureNoise"))
    assert [d.label for d in run.defenses] == ["FeatureNoise"]
    with pytest.raises(ConfigError, match=r"FeatureNoise\.only: .* does not go with GRCN: make a study for each"):
        toy(models=models, defenses=[noise | {"only": ["VBPR"]}])


def test_classes_of_other_packages_are_searched(toy, monkeypatch):
    class Own(VBPR):
        search_space: ClassVar = {"reg": Float(0.1, 1.0)}

    found = component.find_component
    monkeypatch.setattr(component, "find_component", lambda kind, name: Own if name == "Own" else found(kind, name))
    config = toy(models=[{"name": "Own", "embedding_dim": 8}])
    assert "models.Own.reg" in [p.name for p in config.parameters]


def test_parameters_exist_where_their_owner_is_chosen(toy):
    config = two(toy)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        values = config.suggest(study.ask())
        owners = {name.rsplit(".", 1)[0] for name in values if "." in name}
        expected = {"training", f"models.{values['model']}", f"defenses.{values['defense']}"} - {"defenses.none"}
        assert owners == expected
        run = config.run_config(values, {"VBPR": "textual", "GRCN": "visual"})
        assert [m.label for m in run.models] == [values["model"]]
        assert [d.label for d in run.defenses] == [values["defense"]]
        for name, value in values.items():
            if name.startswith("models."):
                assert run.models[0].arguments[name.rsplit(".", 1)[1]] == value
            if name.startswith("training."):
                assert run.training[name.rsplit(".", 1)[1]] == value
        if values["defense"] != "none":
            assert run.defenses[0].arguments["sensitive"] == {"VBPR": "textual", "GRCN": "visual"}[values["model"]]
        seen.add((values["model"], values["defense"]))
    assert len(seen) == 4


def test_the_defaults_are_the_file_without_a_search(toy):
    config = two(toy)
    values = config.defaults()
    assert values["models.VBPR.reg"] == 1.0
    assert values["training.learning_rate"] == 1e-3
    # 128 is none of the batch sizes that are searched, and given in the file: it stays.
    assert "training.batch_size" not in values
    assert config.run_config(values).describe()["training"] == config.run.describe()["training"]
    assert config.first() == values
    assert config.undefended("GRCN").describe()["defenses"] == [{"name": "none", "label": "none"}]
    narrow = toy(search={"models": {"VBPR": {"reg": {"high": 0.5}}}})
    assert narrow.first() is None


def test_a_balanced_model_alone_may_ask_for_its_sensitive_modality(toy):
    config = toy(defenses=[{"name": "ModalityBalancing", "sensitive": "auto"}])
    assert config.needs_reference
    assert not toy().needs_reference
    run = config.run_config(config.defaults(), {"VBPR": "textual"})
    assert [d.label for d in run.defenses] == ["ModalityBalancing"]


def test_attackers_know_the_validation_split(toy):
    assert [plan.labels for _, plan in toy().run.attacks] == ["val"]
    assert [plan.labels for _, plan in toy(attacks=[{"name": "PGD", "labels": "train"}]).run.attacks] == ["train"]


def test_hyperband_ends_with_the_longest_training(toy):
    config = toy(
        models=[{"name": "VBPR", "training": {"max_epochs": 9}}], study={"pruner": {"name": "hyperband"}},
    )  # fmt: skip
    assert config.max_epochs == 9
    assert config.pruner == Hyperband()


def test_the_description_leaves_out_what_may_change(toy):
    config = toy(study={"trials": 4, "hours": 1.0})
    assert config.describe() == toy(study={"trials": 9, "test_seeds": [8]}).describe()
    assert config.describe() != toy(study={"seed": 1}).describe()
    assert config.describe() != toy(models=[{"name": "VBPR", "embedding_dim": 9}]).describe()
    # As if today's arguments were new.
    older = config.describe()
    del older["run"]["models"][0]["trainable_features"]
    del older["study"]["reference"]
    del older["study"]["sampler"]["startup_trials"]
    assert older != config.describe()
    assert renew(older) == config.describe()


def test_files(tmp_path):
    (tmp_path / "c.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match=r"c\.json: expects a table of keys"):
        read_study(tmp_path / "c.json")
    path = tmp_path / "c.toml"
    path.write_text(
        'name = "t"\n[data]\nformat = "synthetic"\n[[models]]\nname = "VBPR"\n[study]\nobjective = "clean"\n'
    )
    assert read_study(path, ["study.trials=7"]).settings.trials == 7
    with pytest.raises(ConfigError, match=r"c\.toml: study: unknown key 'trails'; did you mean 'trials'"):
        read_study(path, ["study.trails=7"])


def test_the_file_that_the_documentation_shows(tmp_path):
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "tuning.md").read_text(), re.S)
    path = tmp_path / "c.toml"
    path.write_text(
        'name = "t"\n[data]\nformat = "synthetic"\n[[models]]\nname = "GRCN"\n[[attacks]]\nname = "PGD"\n'
        '[[defenses]]\nname = "ModalityBalancing"\nsensitive = "auto"\n' + shown
    )
    config = read_study(path)
    searched = {p.name: p.domain for p in config.parameters}
    assert searched["training.learning_rate"] == Float(5e-4, 1e-2, log=True)
    assert "models.GRCN.num_layers" not in searched
    assert searched["defenses.ModalityBalancing.unit"] == Categorical(["rms", "absolute"])
