import logging
import os
import signal

import optuna
import pytest
from optuna.trial import TrialState

from mmgraph_robust.errors import CheckpointError, NonFiniteError
from mmgraph_robust.tuning.worker import Worker, best_so_far
from mmgraph_robust.utils import Terminated, terminable


@pytest.fixture
def start(begin, tmp_path):
    """A worker on a small study, and what it tells."""

    def make(heartbeat=False, **sections):
        config, study = begin(**sections)
        told = []
        return study, Worker(config, study, tmp_path, told.append, heartbeat), told

    return make


def value_of(trial):
    return trial.suggest_float("x", 0, 1)


def test_trials_until_the_budget_is_used_up(start):
    study, worker, told = start()
    assert worker.run(value_of) == "4 of 4 trials"
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
    assert len(told) == 4
    best = max(study.trials, key=lambda t: t.value)
    assert told[-1].startswith("[4/4] trial 3: clean recall@20 ")
    assert told[-1].endswith(f"best {best.value:.4f} (trial {best.number})")
    assert worker.run(value_of) == "4 of 4 trials"
    assert len(study.trials) == 4


def test_every_trial_is_signed(start):
    study, worker, _ = start()
    worker.run(value_of)
    assert {t.user_attrs["worker"]["pid"] for t in study.trials} == {os.getpid()}


@pytest.mark.parametrize("error", [NonFiniteError("the loss became nan"), MemoryError("all gone")])
def test_what_fails_a_trial_does_not_end_the_study(start, error):
    def objective(trial):
        if trial.number == 1:
            raise error
        return value_of(trial)

    study, worker, told = start()
    worker.run(objective)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "failed" in told[1]


def test_a_bug_ends_the_study(start):
    def objective(trial):
        raise ZeroDivisionError("on purpose")

    study, worker, _ = start()
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        worker.run(objective)
    assert [t.state for t in study.trials] == [TrialState.FAIL]
    # Another one is not locked out.
    study.set_user_attr("x", 1)
    with pytest.raises(ZeroDivisionError):
        worker.run(objective)


def test_sigterm_puts_the_trial_back(start):
    def objective(trial):
        value_of(trial)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not noticed")

    study, worker, _ = start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        worker.run(objective)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].params == study.trials[0].params
    worker.run(value_of)
    assert [t.state for t in study.trials[1:]] == [TrialState.COMPLETE] * 4


@pytest.mark.parametrize("reports", [False, True])
def test_a_trial_that_was_taken_for_lost_does_not_count(start, caplog, reports):
    study, worker, told = start(study={"trials": 2})

    def objective(trial):
        value = value_of(trial)
        if trial.number == 0:
            study.tell(0, state=TrialState.FAIL)
            if reports:
                trial.set_user_attr("clean", 0.5)
        return value

    with caplog.at_level(logging.WARNING):
        worker.run(objective)
    assert "taken for lost" in caplog.text
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE"]
    assert len(told) == 1


def test_a_value_error_of_ones_own_is_a_bug(start):
    def objective(trial):
        raise ValueError("on purpose")

    _, worker, _ = start()
    with pytest.raises(ValueError, match="on purpose"):
        worker.run(objective)


def test_a_storage_that_fails_is_said(start, monkeypatch):
    study, worker, _ = start()

    def fail(*args, **kwargs):
        raise optuna.exceptions.StorageInternalError("connection lost")

    monkeypatch.setattr(study._storage, "create_new_trial", fail)
    with pytest.raises(CheckpointError, match="connection lost.*goes on from here"):
        worker.run(value_of)


def test_best_so_far(begin):
    _, study = begin()
    assert best_so_far(study) == "no result yet"
    bad = optuna.trial.create_trial(value=0.9, system_attrs={"constraints:clean loss": 0.1})
    study.add_trial(bad)
    assert best_so_far(study) == "none keeps enough clean quality yet"
    study.add_trial(optuna.trial.create_trial(value=0.5))
    assert best_so_far(study) == "best 0.5000 (trial 2)"
    _, pair = begin(study={"objective": "pareto"})
    for values in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.5]):
        pair.add_trial(optuna.trial.create_trial(values=values))
    assert best_so_far(pair) == "2 trials on the front"
