import os
import subprocess
import sys
import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mmgraph_robust.tuning.claims import Claim, counted, is_lost, recover, requeue, signature


@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def running(study, worker=None):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    if worker is not None:
        trial.set_user_attr("worker", worker)
    return study.trials[trial.number]


def test_who_is_gone(study):
    own = signature()
    assert own["pid"] == os.getpid()
    assert not is_lost(running(study, own), 60)
    # Its number belongs to another process now.
    assert is_lost(running(study, own | {"began": "0"}), 60)
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert is_lost(running(study, own | {"pid": child.pid}), 60)
    elsewhere = own | {"host": "elsewhere"}
    assert not is_lost(running(study, elsewhere), 60)
    late = running(study, elsewhere | {"seen": time.time() - 61})
    assert is_lost(late, 60)
    assert not is_lost(late, 60, heartbeat=True)


def test_a_zombie_is_gone(study):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = signature() | {"pid": child.pid}
    from mmgraph_robust.tuning.claims import _began

    worker["began"] = _began(child.pid)
    trial = running(study, worker)
    assert not is_lost(trial, 60)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_lost(trial, 60)
    child.communicate()


def test_a_trial_that_nobody_signed(study):
    trial = running(study)
    assert not is_lost(trial, 1e9)
    trial.datetime_start = datetime.now() - timedelta(seconds=61)
    assert is_lost(trial, 1e9)


def test_signs_are_written_once_a_minute(study, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trial = study.ask()
    claim = Claim(trial)
    first = study.trials[0].user_attrs["worker"]["seen"]
    claim.sign()
    assert study.trials[0].user_attrs["worker"]["seen"] == first
    now[0] = 61.0
    claim.sign()
    assert study.trials[0].user_attrs["worker"]["seen"] > first


def test_lost_trials_are_queued_again_up_to_a_limit(study, caplog):
    gone = signature() | {"began": "0"}
    params = running(study, gone).params
    alive = running(study, signature())
    for attempt in range(3):
        (number,) = recover(study, retries=2, lost_after=60)
        assert study.trials[number].state == TrialState.FAIL
        waiting = study.get_trials(states=(TrialState.WAITING,))
        if attempt == 2:
            assert not waiting
            break
        assert waiting[0].params == params
        again = study.ask()
        assert again.suggest_float("x", 0, 1) == params["x"]
        again.set_user_attr("worker", gone)
    assert "given up" in caplog.text
    assert recover(study, retries=2, lost_after=60) == []
    assert study.trials[alive.number].state == TrialState.RUNNING
    # What was begun: the one that lives, and the last attempt of the other.
    assert [t.number for t in counted(study.trials)] == [1, 3]


def test_an_interrupted_trial_is_not_at_fault(study):
    trial = running(study, signature())
    for _ in range(5):
        study.tell(trial.number, state=TrialState.FAIL)
        requeue(study, study.trials[trial.number], retries=None)
        trial = study.trials[study.ask().number]
    assert trial.user_attrs["died"] == 0
    assert trial.system_attrs["retry_history"] == [0, 1, 2, 3, 4]


def test_queued_default_values_are_queued_again(study):
    study.enqueue_trial({"x": 0.25})
    trial = study.ask()
    study.tell(trial.number, state=TrialState.FAIL)
    # It died before it had asked for a value.
    requeue(study, study.trials[0], retries=1)
    assert study.ask().suggest_float("x", 0, 1) == 0.25


def test_waiting_trials_are_not_counted(study):
    study.add_trial(create_trial(state=TrialState.WAITING))
    assert counted(study.trials) == []
