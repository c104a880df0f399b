import inspect

import pytest
from optuna.trial import FixedTrial

from mmgraph_robust import defenses, models
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.component import GIVEN_TO_FIT
from mmgraph_robust.training import SEARCH_SPACE, fit
from mmgraph_robust.tuning.space import Parameter, parameters_of
from mmgraph_robust.utils import Categorical, Float, Int, room_classes

SPACES = [("fit", fit, SEARCH_SPACE)]
for room, base in ((models, models.Recommender), (defenses, defenses.Defense)):
    SPACES += [(name, kind, kind.search_space) for name, kind in room_classes(room, base).items()]


@pytest.mark.parametrize(("name", "target", "space"), SPACES, ids=lambda v: v if isinstance(v, str) else "")
def test_every_model_and_defense_says_where_to_search(name, target, space):
    assert space, f"{name} has no search_space"
    arguments = inspect.signature(target).parameters
    for argument, domain in space.items():
        assert argument in arguments, f"{name}.search_space names '{argument}', which is no argument"
        assert arguments[argument].default in domain, f"the default of {name}.{argument} lies outside its search space"


def parameters(fixed=None, changes=None):
    found = parameters_of(
        ("models", "GRCN"), models.GRCN, models.GRCN.search_space, fixed or {}, changes or {},
        ("num_users", "num_items", "feature_dims", "seed"),
    )  # fmt: skip
    return {p.argument: p for p in found}


def test_the_own_space_without_what_is_fixed():
    assert set(parameters()) == set(models.GRCN.search_space)
    found = parameters(fixed={"reg": 0.01, "num_layers": 1})
    assert set(found) == set(models.GRCN.search_space) - {"reg", "num_layers"}
    assert found["num_routings"] == Parameter(("models", "GRCN"), "num_routings", Int(1, 5), 3)
    assert found["num_routings"].name == "models.GRCN.num_routings"


def test_what_a_file_changes():
    found = parameters(
        fixed={"reg": 0.01, "embedding_dim": 16},
        changes={
            "reg": {"low": 1e-3}, "num_layers": {"high": 2}, "weighting": False, "pruning": {"choices": [True]},
            "embedding_dim": True, "trainable_features": {"choices": [False, True]},
        },
    )  # fmt: skip
    assert found["reg"].domain == Float(1e-3, 1e-2, log=True)
    assert found["reg"].default == 0.01
    assert found["num_layers"].domain == Int(1, 2)
    assert "weighting" not in found
    assert found["pruning"].domain == Categorical([True])
    assert found["embedding_dim"].default == 16
    assert found["trainable_features"].domain == Categorical([False, True])


def test_an_argument_without_a_space_of_its_own_takes_its_type():
    found = {
        p.argument: p
        for p in parameters_of(
            ("training",), fit, SEARCH_SPACE, {},
            {"weight_decay": {"low": 0, "high": 1}, "patience": {"low": 5, "high": 9}}, GIVEN_TO_FIT,
        )
    }  # fmt: skip
    assert found["weight_decay"].domain == Float(0.0, 1.0)
    assert found["patience"].domain == Int(5, 9)
    assert found["patience"].suggest(FixedTrial({"training.patience": 7})) == 7


def test_an_entry_of_a_table():
    found = parameters(
        fixed={"feature_scale": {"visual": 1.0, "textual": 3.0}},
        changes={"feature_scale": {"visual": {"low": 0.01, "high": 1, "log": True}}},
    )
    scale = found["feature_scale"]
    assert scale.name == "models.GRCN.feature_scale.visual"
    assert (scale.domain, scale.default) == (Float(0.01, 1.0, log=True), 1.0)
    arguments = {"feature_scale": {"visual": 1.0, "textual": 3.0}}
    scale.put(arguments, 0.25)
    assert arguments == {"feature_scale": {"visual": 0.25, "textual": 3.0}}


def test_a_study_searches_an_entry_of_a_table(toy):
    config = toy(
        models=[{"name": "VBPR", "reg": 1.0, "embedding_dim": 8, "feature_scale": {"visual": 0.5}}],
        search={"models": {"VBPR": {"feature_scale": {"visual": {"low": 0.1, "high": 2.0}}}}},
    )
    name = "models.VBPR.feature_scale.visual"
    assert config.first()[name] == 0.5
    values = config.defaults() | {name: 0.2}
    assert config.run_config(values).models[0].arguments["feature_scale"] == {"visual": 0.2}
    # What the file says stays what it is.
    assert config.run_config(config.defaults()).models[0].arguments["feature_scale"] == {"visual": 0.5}
    with pytest.raises(ConfigError, match=r"unknown modality 'visul'"):
        toy(
            models=[{"name": "VBPR", "feature_scale": {"visul": 0.5}}],
            search={"models": {"VBPR": {"feature_scale": {"visul": {"low": 0.1, "high": 2.0}}}}},
        ).check_data(config.run.build_data())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_scale": {"visual": {"low": 0.1, "high": 1}}}, r"feature_scale: give 'visual' in the file, too"),
        ({"feature_scale": {"visual": {"low": 0.1, "high": 1}, "textual": 3}}, "give 'visual' in the file, too"),
        ({"reg": {"visual": {"low": 0.1, "high": 1}}}, "reg is one value and no table of several"),
        ({"rge": {"low": 1}}, "unknown argument 'rge'; did you mean 'reg'"),
        ({"reg": {"lwo": 1.0}}, "unknown key 'lwo'; did you mean 'low'"),
        ({"reg": {"low": "1"}}, "'low' expects a number"),
        ({"reg": {"low": True}}, "'low' expects a number"),
        ({"reg": {"log": 1}}, "'log' expects true or false"),
        ({"reg": {"low": 1.0}}, "low < high"),
        ({"reg": 3}, "expects a table, true or false"),
        ({"num_layers": {"low": 0.5}}, "whole numbers"),
        ({"num_layers": {"choices": [1], "low": 1}}, "stand alone"),
        ({"num_layers": {"choices": 1}}, "to be a list"),
        ({"weighting": {"low": 1, "high": 2}}, "give 'choices'"),
        ({"trainable_features": True}, "nothing is known"),
        ({"seed": {"low": 1, "high": 2}}, "unknown argument 'seed'"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigError, match=r"search\.models\.GRCN.*" + message):
        parameters(changes=changes)
