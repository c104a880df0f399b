import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import read_entries
from mmgraph_robust.tuning import Objective, Workbench, final_test
from mmgraph_robust.tuning import final as room


@pytest.fixture
def done(begin):
    config, study = begin(study={"objective": "attacked", "test_seeds": [7, 8]}, attacks=[{"name": "Noise"}])
    study.optimize(Objective(config, Workbench(config.run.build_data())), n_trials=3)
    return config, study


def test_the_test_split_is_read_once(done, tmp_path, monkeypatch):
    config, study = done
    entries = final_test(config, study, tmp_path, progress=False)
    best = f"trial{max(study.trials, key=lambda t: t.value).number}"
    assert {(e["defense"], e["seed"]) for e in entries} == {(d, s) for d in ("defaults", best) for s in (7, 8)}
    assert {a["labels"] for e in entries for a in e["attacks"]} == {"test"}
    record = study.user_attrs["test"]
    assert record["state"] == "done"
    assert record["times"] == 1
    own = [e for e in entries if e["defense"] == best]
    assert record["results"][best]["clean"] == pytest.approx(sum(e["clean"]["metrics"]["recall@20"] for e in own) / 2)
    worst = [min(a["metrics"]["recall@20"] for a in e["attacks"]) for e in own]
    assert record["results"][best]["attacked"] == pytest.approx(sum(worst) / 2)
    for name in ("table.md", "report.html"):
        assert "defaults" in (tmp_path / "test" / name).read_text()
    assert read_entries(tmp_path / "test" / best / "entries") == own
    with pytest.raises(ConfigError, match="was read for this study already.*--test-again"):
        final_test(config, study, tmp_path, progress=False)
    final_test(config, study, tmp_path, again=True, progress=False)
    assert study.user_attrs["test"]["times"] == 2


def test_an_interrupted_test_goes_on_and_another_choice_is_refused(done, tmp_path, monkeypatch):
    config, study = done

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    run = room.run
    monkeypatch.setattr(room, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        final_test(config, study, tmp_path, progress=False)
    assert study.user_attrs["test"]["state"] == "begun"
    monkeypatch.setattr(room, "run", run)
    record = study.user_attrs["test"]
    study.set_user_attr("test", record | {"trials": [99]})
    with pytest.raises(ConfigError, match=r"trials \[99\]"):
        final_test(config, study, tmp_path, progress=False)
    study.set_user_attr("test", record)
    final_test(config, study, tmp_path, progress=False)
    assert study.user_attrs["test"] == record | {"state": "done", "results": study.user_attrs["test"]["results"]}


def test_nothing_to_choose_from(begin, tmp_path):
    config, study = begin()
    with pytest.raises(ConfigError, match="running or queued"):
        final_test(config, study, tmp_path)
    study.tell(study.ask(), None, state=room.optuna.trial.TrialState.FAIL)
    with pytest.raises(ConfigError, match="no trial can be chosen"):
        final_test(config, study, tmp_path)
    assert "test" not in study.user_attrs
