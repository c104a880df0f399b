"""Real processes, real kills, real storages."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mmgraph_robust.data import DataWarning
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.tuning import StudyConfig, open_storage, tune

from .program import TOY

ROOT = Path(__file__).resolve().parents[2]
STORAGES = ["sqlite", "journal", "postgres"]


@pytest.fixture(params=STORAGES)
def place(request, tmp_path):
    """A storage of each kind, and how many workers it serves."""
    return _place(request.param, request, tmp_path)


def _place(kind, request, tmp_path):
    if kind == "postgres":
        # A database for all tests: each has a study of its own.
        url = request.getfixturevalue("postgres")
        names = optuna.get_all_study_names(open_storage(url))
        for name in names:
            optuna.delete_study(study_name=name, storage=open_storage(url))
        return url, 2
    return str(tmp_path / ("study.db" if kind == "sqlite" else "study.journal")), 1 if kind == "sqlite" else 2


def start(folder, storage, workers, trials, meeting=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if meeting is not None:
        meeting.mkdir(exist_ok=True)
        environment |= {"STUDY_MEETING": str(meeting)}
    program = [sys.executable, str(Path(__file__).parent / "program.py"), str(folder), storage]
    return subprocess.Popen(
        [*program, str(workers), str(trials)], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def finish(process):
    errors = process.communicate(timeout=900)[1]
    return process.returncode, errors


def hanging(folder, process):
    """Waits for a worker to take the file 'hang'; its process and trial."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        for path in folder.glob("hanging-*"):
            _, pid, number = path.name.split("-")
            return int(pid), int(number)
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise TimeoutError("no trial began")


def trials(storage):
    study = optuna.load_study(study_name="golden", storage=open_storage(storage))
    return study.get_trials()


def test_a_killed_worker_loses_its_trial_at_most(place, tmp_path):
    storage, workers = place
    (tmp_path / "hang").touch()
    process = start(tmp_path, storage, workers, 6)
    pid, number = hanging(tmp_path, process)
    os.kill(pid, signal.SIGKILL)
    code, errors = finish(process)
    if workers == 1:
        # The one process was the worker: the same command goes on.
        assert code == -signal.SIGKILL
        code, errors = finish(start(tmp_path, storage, workers, 6))
    assert code == 0, errors
    found = trials(storage)
    assert [t.number for t in found] == list(range(7))
    assert [t.number for t in found if t.state != TrialState.COMPLETE] == [number]
    (again,) = [t for t in found if t.system_attrs.get("retry_history") == [number]]
    assert again.params == found[number].params
    assert found[number].params
    # No two others are the same.
    assert len({str(t.params) for t in found}) == 6


def test_two_workers_of_one_command(request, tmp_path):
    storage, _ = _place("journal", request, tmp_path)
    code, errors = finish(start(tmp_path, storage, 2, 60, tmp_path / "meeting"))
    assert code == 0, errors
    found = trials(storage)
    assert [t.number for t in found] == list(range(60))
    assert {t.state for t in found} == {TrialState.COMPLETE}
    assert len({str(t.params) for t in found}) == 60
    shares = [t.user_attrs["pid"] for t in found]
    assert min(map(shares.count, set(shares))) >= 10
    assert len(set(shares)) == 2


@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_two_commands_join_on_one_storage(kind, request, tmp_path):
    storage, _ = _place(kind, request, tmp_path)
    processes = [start(tmp_path / name, storage, 1, 60, tmp_path / "meeting") for name in ("here", "there")]
    for process in processes:
        code, errors = finish(process)
        assert code == 0, errors
    found = trials(storage)
    # Commands of two folders, as those of two machines, begin trials without a common lock.
    assert [t.number for t in found] == list(range(len(found)))
    assert 60 <= len(found) <= 61
    assert {t.state for t in found} == {TrialState.COMPLETE}
    shares = [t.user_attrs["pid"] for t in found]
    assert min(map(shares.count, set(shares))) >= 10
    assert len(set(shares)) == 2
    # The default values may be tried by both, who began at once.
    assert len({str(t.params) for t in found}) >= len(found) - 1


def test_asked_to_end_a_worker_puts_its_trial_back(tmp_path):
    storage = str(tmp_path / "study.journal")
    (tmp_path / "hang").touch()
    process = start(tmp_path, storage, 2, 5)
    _, number = hanging(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    code, errors = finish(process)
    assert code != 0
    assert "Terminated" in errors
    states = {t.number: t.state for t in trials(storage)}
    assert states[number] == TrialState.FAIL
    assert TrialState.RUNNING not in states.values()
    (again,) = [t for t in trials(storage) if t.system_attrs.get("retry_history") == [number]]
    assert again.state == TrialState.WAITING


def test_workers_do_not_outlive_the_command(tmp_path):
    storage = str(tmp_path / "study.journal")
    (tmp_path / "hang").touch()
    process = start(tmp_path, storage, 2, 5)
    pid, _ = hanging(tmp_path, process)
    process.kill()
    process.wait()
    end = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_bug_ends_the_study(tmp_path):
    (tmp_path / "bug").touch()
    code, errors = finish(start(tmp_path, str(tmp_path / "study.journal"), 2, 20))
    assert code == 1
    assert "a worker died of a bug" in errors
    assert "ZeroDivisionError: on purpose" in errors
    # The other worker may have been asked to end within a trial, which then waits to be run again.
    began = [t for t in trials(str(tmp_path / "study.journal")) if t.state != TrialState.WAITING]
    assert 1 <= len(began) <= 2


def test_a_study_in_this_process(tmp_path, caplog):
    values = TOY | {"study": TOY["study"] | {"trials": 2}}
    with caplog.at_level("INFO"):
        study = tune(StudyConfig(values), tmp_path)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    assert (tmp_path / "study.db").exists()
    assert "[2/2] trial 1: clean recall@20" in caplog.text
    assert "best" in caplog.text
    assert study.trials[0].params == {"models.VBPR.reg": 1.0}
    assert {"config", "data_hash", "provenance", "schema"} <= set(study.user_attrs)
    study.set_user_attr("data_hash", "other")
    with pytest.raises(ConfigError, match="begun with other data"):
        tune(StudyConfig(values | {"study": TOY["study"] | {"trials": 3}}), tmp_path)
    with pytest.raises(ConfigError, match="SQLite serves one process"):
        tune(StudyConfig(values), tmp_path, workers=2)
    with pytest.raises(ConfigError, match="workers and threads >= 1"):
        tune(StudyConfig(values), tmp_path, workers=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_odd_about_the_data_is_said_once(tmp_path, workers, capfd):
    """And not by every trial, or every worker."""
    values = TOY | {"data": TOY["data"] | {"num_items": 400}, "study": TOY["study"] | {"trials": 2}}
    values["study"] |= {"objective": "constrained"}
    values["attacks"] = [{"name": "SingleStep", "modalities": ["all"]}]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tune(StudyConfig(values), tmp_path, workers=workers)
    odd = [str(w.message) for w in told if issubclass(w.category, DataWarning)]
    assert len(odd) == len(set(odd)) > 0
    assert "DataWarning" not in capfd.readouterr().err


def test_a_study_whose_data_cannot_be_read_leaves_nothing_behind(tmp_path):
    """So that the mended file is not refused as another configuration under the same name."""
    missing = TOY | {"data": {"format": "mmrec", "folder": str(tmp_path / "nowhere")}}
    with pytest.raises(DataError):
        tune(StudyConfig(missing), tmp_path)
    study = tune(StudyConfig(TOY | {"study": TOY["study"] | {"trials": 1}}), tmp_path)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE]


def test_a_folder_that_takes_no_files_is_told_before_the_study_begins(unwritable, tmp_path):
    storage = tmp_path / "study.db"
    with pytest.raises(ConfigError, match="cannot be made: .* may not be written to"):
        tune(StudyConfig(TOY), unwritable / "study", storage=str(storage))
    assert not storage.exists()


def test_a_device_that_is_not_there_is_told_before_the_study_begins(tmp_path):
    with pytest.raises(ConfigError, match="'device' expects one that torch can use here"):
        tune(StudyConfig(TOY), tmp_path, device="moon")
    assert not list(tmp_path.iterdir())
