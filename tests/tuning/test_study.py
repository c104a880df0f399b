import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.tuning import open_study
from mmgraph_robust.tuning.study import claim_value, is_feasible, results, spent


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


def test_a_study_is_begun_once(toy, storage):
    config = toy()
    with pytest.raises(ConfigError, match="has no study 'toy'"):
        open_study(config, storage, create=False)
    study = open_study(config, storage)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.metric_names == ["clean recall@20"]
    # The default values wait to be the first trial, once.
    assert [t.state for t in open_study(config, storage).trials] == [TrialState.WAITING]
    assert study.user_attrs["config"] == config.describe()


def test_a_changed_configuration_is_refused_with_the_difference(toy, storage):
    open_study(toy(), storage)
    # How long it goes on may change.
    open_study(toy(study={"trials": 100, "epochs": 5, "test_seeds": [7]}), storage)
    with pytest.raises(ConfigError, match=r"run\.training\.max_epochs: 2 there, 3 here") as error:
        open_study(toy(training={"max_epochs": 3}), storage)
    assert "choose another name" in str(error.value)
    with pytest.raises(ConfigError, match=r"study\.seed: 0 there, 1 here"):
        open_study(toy(study={"seed": 1}), storage)
    with pytest.raises(ConfigError, match=r"search\.models\.VBPR\.reg\.high: 10\.0 there, 5\.0 here"):
        open_study(toy(search={"models": {"VBPR": {"reg": {"high": 5.0}}}}), storage)
    with pytest.raises(ConfigError, match=r"search\.training\.weight_decay: None there"):
        open_study(toy(search={"training": {"weight_decay": {"low": 0.0, "high": 1.0}}}), storage)
    with pytest.raises(ConfigError, match=r"run\.models\[0\]\.name: 'VBPR' there, 'GRCN' here.*and \d+ more"):
        open_study(toy(models=[{"name": "GRCN"}], seeds=[4]), storage)


def test_another_schema_is_refused(toy, storage):
    study = open_study(toy(), storage)
    study.set_user_attr("schema", 99)
    with pytest.raises(ConfigError, match="its schema is 99, known is 1"):
        open_study(toy(), storage)


def test_a_study_that_is_not_ours_is_refused(toy, storage):
    study = optuna.create_study(study_name="toy", storage=storage, direction="maximize")
    with pytest.raises(ConfigError, match="is none of this library"):
        open_study(toy(study={"objective": "pareto"}), storage)
    study.add_trial(create_trial(value=0.5))
    with pytest.raises(ConfigError, match="is none of this library"):
        open_study(toy(), storage)
    assert study.user_attrs == {}


def test_values_that_all_workers_share(begin):
    _, study = begin()
    claim_value(study, "data_hash", "a", "other data")
    claim_value(study, "data_hash", "a", "other data")
    with pytest.raises(ConfigError, match="begun with other data than here"):
        claim_value(study, "data_hash", "b", "other data")


def test_budgets(toy):
    def trial(state=TrialState.COMPLETE, **attributes):
        return create_trial(state=state, value=0.0 if state == TrialState.COMPLETE else None, user_attrs=attributes)

    three = [trial(epochs=4, seconds=600.0), trial(TrialState.PRUNED, epochs=2, seconds=60.0), trial(TrialState.FAIL)]
    for number, each in enumerate(three):
        each.number = number
    assert spent(toy(study={"trials": 4}), three) is None
    assert spent(toy(study={"trials": 3}), three) == "3 of 3 trials"
    assert spent(toy(study={"trials": 9, "epochs": 6}), three) == "6 of 6 epochs"
    assert spent(toy(study={"trials": 9, "epochs": 7}), three) is None
    assert spent(toy(study={"trials": 9, "hours": 0.18}), three) == "0.18 of 0.18 hours of computing"
    assert spent(toy(study={"trials": 9, "hours": 0.2}), three) is None


def test_what_counts_as_a_result(begin):
    _, study = begin()
    bad = create_trial(value=0.9, system_attrs={"constraints:clean loss": 0.1})
    for each in (create_trial(value=0.5), bad, create_trial(state=TrialState.FAIL)):
        study.add_trial(each)
    assert [t.value for t in results(study)] == [0.5, 0.9]
    assert [is_feasible(t) for t in results(study)] == [True, False]
