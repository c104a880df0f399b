import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.tuning import StudyConfig, open_storage, open_study
from mmgraph_robust.tuning.storage import check_storage, default_storage, has_heartbeat, shown

DATA = Path(__file__).parent / "data"
SECRET = "postgresql://me:secret@host/studies"


def test_kinds():
    assert check_storage("a.journal", workers=8) == "a.journal"
    assert check_storage("a/b.db") == "sqlite:///a/b.db"
    assert check_storage(check_storage("/a/b.sqlite3")) == "sqlite:////a/b.sqlite3"
    assert check_storage(SECRET, workers=8) == "postgresql+psycopg://me:secret@host/studies"
    assert [has_heartbeat(check_storage(s)) for s in ("a.journal", "a.db", SECRET)] == [False, False, True]
    assert "secret" not in shown(check_storage(SECRET))
    assert shown("a.journal") == "a.journal"
    for bad, message in (
        ("study.txt", "unknown ending '.txt'"), ("mysql://host/x", "unknown database 'mysql'"), ("://", "not a URL"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            check_storage(bad)
    with pytest.raises(ConfigError, match="SQLite serves one process"):
        check_storage("a.db", workers=2)


def test_the_storage_of_a_folder(tmp_path):
    assert default_storage(tmp_path, 1).endswith("study.db")
    assert default_storage(tmp_path, 2).endswith("study.journal")
    (tmp_path / "study.journal").touch()
    assert default_storage(tmp_path, 1).endswith("study.journal")
    (tmp_path / "study.db").touch()
    assert default_storage(tmp_path, 1).endswith("study.db")


def test_what_cannot_be_opened_is_said(tmp_path):
    path = tmp_path / "study.db"
    path.write_text("no database, and longer than the header of one " * 9)
    with pytest.raises(CheckpointError, match=r"cannot open the storage sqlite:///.*study\.db"):
        open_storage(str(path))
    for file in ("study.db", "study.journal"):
        with pytest.raises(CheckpointError, match=rf"cannot open the storage .*{file}: .*study\.db'\)"):
            open_storage(str(path / file))
    (tmp_path / "study.journal").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot open the storage .*study\.journal: Is a directory"):
        open_storage(str(tmp_path / "study.journal"))
    with pytest.raises(CheckpointError, match="cannot open the storage") as error:
        open_storage("postgresql://me:secret@127.0.0.1:9/studies")
    assert "secret" not in str(error.value)


def test_a_heart_that_stops_is_noticed(postgres):
    """A worker of another machine, whose process cannot be looked up."""
    again = []
    storage = open_storage(postgres, lambda study, trial: again.append(trial.number), heartbeat=1, grace=2)
    study = optuna.create_study(study_name="heart", storage=storage)
    dead, alive = study.ask(), study.ask()
    storage.record_heartbeat(dead._trial_id)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        storage.record_heartbeat(alive._trial_id)
        time.sleep(0.2)
    study.optimize(lambda trial: 0.0, n_trials=1)
    assert again == [dead.number]
    assert [t.state.name for t in study.trials] == ["FAIL", "RUNNING", "COMPLETE"]


@pytest.mark.parametrize("ending", ["db", "journal"])
def test_an_old_study_of_ours_opens_and_goes_on(tmp_path, ending):
    path = tmp_path / f"study-1.{ending}"
    shutil.copyfile(DATA / path.name, path)
    config = StudyConfig(json.loads((DATA / "study-1.json").read_text()))
    study = open_study(config, str(path), create=False)
    assert [t.number for t in study.trials] == [0, 1, 2]
    assert study.best_value == pytest.approx(7.814338, abs=1e-6)
    assert study.trials[0].params == {"models.VBPR.reg": 1.0}
    study.optimize(lambda trial: config.suggest(trial)["models.VBPR.reg"], n_trials=1)
    assert study.trials[3].params["models.VBPR.reg"] not in [t.params["models.VBPR.reg"] for t in study.trials[:3]]


def test_the_old_database_is_of_an_optuna_that_is_named():
    with closing(sqlite3.connect(DATA / "study-1.db")) as database:
        (version,) = database.execute("select library_version from version_info").fetchone()
    assert version == "5.0.0"
