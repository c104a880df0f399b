import os
import signal
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.tuning import open_storage
from mmgraph_robust.tuning.journal import FileLock, mend

HOLDER = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def fill(path, count=3):
    study = optuna.create_study(study_name="s", storage=open_storage(str(path)))
    for _ in range(count):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    return study


def test_a_killed_process_lets_go_of_the_lock(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
        lock = FileLock(path)
        # Waits for ever if it is still held.
        assert lock.acquire()
        lock.release()
        lock.release()


@pytest.mark.parametrize("cut", [1, 15, 40])
def test_a_torn_last_line_is_cut_off_and_kept_beside(tmp_path, cut, caplog):
    path = tmp_path / "study.journal"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    storage = open_storage(str(path))
    (copy,) = tmp_path.glob("study.journal.torn-*")
    assert copy.read_bytes() == whole[:-cut]
    assert path.read_bytes() == whole[: whole[:-1].rindex(b"\n") + 1]
    assert "unfinished line" in caplog.text
    study = optuna.load_study(study_name="s", storage=storage)
    assert [t.state for t in study.trials[:2]] == [TrialState.COMPLETE] * 2
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(study.trials) == 4


def test_a_line_torn_by_another_writer_is_mended_before_the_next_is_written(tmp_path):
    path = tmp_path / "study.journal"
    study = fill(path)
    with open(path, "ab") as file:
        file.write(b'{"op_code":4,"worker')
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(list(tmp_path.glob("*.torn-*"))) == 1
    again = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    assert [t.params for t in again.trials] == [t.params for t in study.trials]
    assert len(again.trials) == 4


def test_whole_and_empty_journals_are_left_alone(tmp_path):
    path = tmp_path / "study.journal"
    path.touch()
    assert mend(path) is None
    fill(path)
    before = path.read_bytes()
    assert mend(path) is None
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.torn-*"))


def test_damage_elsewhere_is_said(tmp_path):
    path = tmp_path / "study.journal"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3][:10] + b"\n", *lines[4:]]))
    with pytest.raises(CheckpointError, match="is damaged"):
        open_storage(str(path))
    os.remove(path)
    path.write_text("[section]\nkey = 1\n")
    with pytest.raises(CheckpointError, match="no journal of a study"):
        open_storage(str(path))
