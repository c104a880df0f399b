import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import read_config
from mmgraph_robust.tuning import choose, export
from mmgraph_robust.tuning.selection import check_finished, chosen_run, values_of


def add(config, study, value, seed, **more):
    """A finished trial with drawn values."""
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    config.suggest(drawn)
    values = value if isinstance(value, list) else [value]
    frozen = create_trial(values=values, params=drawn.params, distributions=drawn.distributions, **more)
    study.add_trial(frozen)
    return drawn.params


def test_the_best_that_keep_the_constraint(begin):
    config, study = begin()
    for value in (0.1, 0.4, 0.4, 0.2):
        study.add_trial(create_trial(value=value))
    study.add_trial(create_trial(value=0.9, system_attrs={"constraints:clean loss": 1e-9}))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.8))
    # The first place is the waiting default; of equals the earlier comes first.
    assert [t.number for t in choose(config, study, 3)] == [2, 3, 4]
    assert [t.number for t in choose(config, study)] == [2]


def test_the_front_is_shown_from_end_to_end(begin):
    config, study = begin(study={"objective": "pareto"})
    for clean in range(9):
        study.add_trial(create_trial(values=[clean / 10, 1 - clean / 10]))
    study.add_trial(create_trial(values=[0.0, 0.0]))
    assert [t.values[0] for t in choose(config, study, 3)] == [0.8, 0.4, 0.0]
    assert len(choose(config, study, 99)) == 9
    assert [t.values[0] for t in choose(config, study, 1)] == [0.8]


def test_the_best_as_files_for_a_run(begin, tmp_path):
    config, study = begin(
        models=[{"name": "VBPR", "embedding_dim": 8}, {"name": "GRCN"}], seeds=[3, 4],
        defenses=[{"name": "none"}, {"name": "ModalityBalancing", "sensitive": "auto"}],
    )  # fmt: skip
    study.set_user_attr("reference", {m: {"clean": 0.1, "sensitive": "textual"} for m in ("VBPR", "GRCN")})
    study.set_user_attr("provenance", {"commit": "abc123"})
    params = {number: add(config, study, number / 10, seed=number) for number in range(1, 7)}
    (tmp_path / "toy-trial99.toml").touch()
    paths = export(config, study, tmp_path, count=4)
    assert [p.name for p in paths] == [f"toy-trial{n}.toml" for n in (6, 5, 4, 3)]
    assert sorted(tmp_path.glob("*.toml")) == sorted(paths)
    for number, path in zip((6, 5, 4, 3), paths, strict=True):
        run = read_config(path)
        assert run.seeds == [3, 4]
        assert run.models[0].name == params[number]["model"]
        assert run.defenses[0].name == params[number]["defense"]
        assert run.defenses[0].label == f"trial{number}"
        assert run.attacks[0][1].labels == "test"
        if run.defenses[0].name != "none":
            assert run.defenses[0].arguments["sensitive"] == "textual"
            assert run.defenses[0].arguments["eps"] == params[number]["defenses.ModalityBalancing.eps"]
        assert run.training["learning_rate"] == params[number]["training.learning_rate"]
        text = path.read_text()
        assert f"Trial {number} of the study 'toy'" in text
        assert "commit: abc123" in text
        assert f"clean recall@20: {number / 10}" in text


def test_the_values_of_a_trial(begin):
    config, study = begin()
    params = add(config, study, 0.5, seed=1)
    values = values_of(config, study.trials[-1])
    assert values == params | {"model": "VBPR", "defense": "none"}
    assert chosen_run(config, study, values, "x", seeds=[9]).seeds == [9]


def test_nothing_is_chosen_while_trials_run(begin):
    config, study = begin()
    with pytest.raises(ConfigError, match=r"trials \[0\] of the study are running or queued"):
        check_finished(config, study)
    study.tell(study.ask(), 0.5)
    check_finished(config, study)


def test_what_was_put_back_when_the_budget_ran_out_is_not_waited_for(begin):
    config, study = begin(study={"epochs": 10})
    study.enqueue_trial({"training.learning_rate": 1e-3})
    with pytest.raises(ConfigError, match="queued"):
        check_finished(config, study)
    trial = study.ask()
    trial.set_user_attr("epochs", 12)
    study.tell(trial, 0.5)
    study.enqueue_trial({"training.learning_rate": 2e-3})
    check_finished(config, study)
