import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import mmgraph_robust as mr
from mmgraph_robust.data import write_mmrec
from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment import RunConfig, Suite, dry_run, read_config, report, run
from mmgraph_robust.experiment.report import keep, without_users
from mmgraph_robust.reporting import check_entry, goal_table, read_source, read_tests
from mmgraph_robust.utils import read_json, unpack, write_json

CONFIG = {
    "name": "toy", "seeds": [0, 1],
    "data": {"format": "synthetic", "num_users": 60, "num_items": 40, "modalities": {"visual": 6, "textual": 5}},
    "training": {"max_epochs": 2, "batch_size": 128},
    "models": [{"name": "LightGCN", "embedding_dim": 4}, {"name": "VBPR", "embedding_dim": 4}],
    "defenses": [{"name": "ModalityBalancing", "sensitive": "auto"}, {"name": "none"}],
    "attacks": [{"name": "PGD", "steps": 2}, {"name": "Noise", "modalities": ["all"]}],
}  # fmt: skip
SMALL = CONFIG | {"models": CONFIG["models"][1:], "defenses": [{"name": "none"}], "seeds": [0]}


def numbers(folder):
    result = {}
    for path in sorted((folder / "entries").glob("*.json")):
        entry = json.loads(path.read_text())
        result[path.name] = [entry["clean"], [(a["attack"], a["metrics"], a["margins"]) for a in entry["attacks"]]]
    return result


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path):
    config = RunConfig(CONFIG)
    entries = run(config, tmp_path / "a", progress=False)
    # LightGCN cannot be defended: two seeds of it, and of VBPR with and without; each attacked four times.
    assert len(entries) == 6
    assert all(len(entry["attacks"]) == 4 for entry in entries)
    whole = numbers(tmp_path / "a")
    assert len(whole) == 30
    for name in ("report.html", "table.md", "table.csv", "config.json"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    assert not list((tmp_path / "a" / "checkpoints").glob("*"))
    run(config, tmp_path / "b", progress=False)
    # A training and its model are gone, an attack, and the model whose attack is gone.
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "b" / "entries").glob("*.json")}
    gone = [name for name in kept if "VBPR-ModalityBalancing-seed1-" in name and name.count("-") == 4]
    gone += [name for name in kept if "VBPR-none-seed0-PGD-visual-5" in name]
    assert len(gone) == 2
    for name in gone:
        (tmp_path / "b" / "entries" / name).unlink()
        del kept[name]
    for path in (tmp_path / "b" / "models").glob("*VBPR*"):
        path.unlink()
    run(RunConfig(json.loads((tmp_path / "b" / "config.json").read_text())), tmp_path / "b", progress=False)
    assert numbers(tmp_path / "b") == whole
    for name, time_ns in kept.items():
        assert (tmp_path / "b" / "entries" / name).stat().st_mtime_ns == time_ns


def test_an_entry_says_what_made_it(tmp_path):
    run(RunConfig(SMALL), tmp_path, progress=False)
    entries = [json.loads(path.read_text()) for path in (tmp_path / "entries").glob("*.json")]
    for entry in entries:
        check_entry(entry)
        assert "history" in entry["training"]
        assert entry["config"]["evaluation"]["metric"] == "recall@20"
        assert entry["config"]["model"] == {"name": "VBPR", **RunConfig(SMALL).models[0].arguments}
        assert {"data_hash", "feature_hash", "commit", "version", "torch"} <= set(entry["provenance"])
        assert entry["memory_mb"] > 0
        assert entry["size"]["items"] == 40
        part = entry["attacks"][0] if entry["attacks"] else entry["clean"]
        values = unpack(part["per_user"]["recall@20"])
        assert values.mean() == pytest.approx(part["metrics"]["recall@20"], abs=1e-6)
    (training,) = (e for e in entries if e["key"] == e["trained"])
    assert training["carries"]["visual"]["clean"] == training["clean"]["metrics"]["recall@20"]
    assert training["sensitive"]["by_metric"] in ("visual", "textual")


def test_two_processes_give_the_numbers_of_one(tmp_path):
    config = RunConfig(CONFIG | {"models": CONFIG["models"][1:]})
    run(config, tmp_path / "one", progress=False, threads=1)
    run(config, tmp_path / "two", progress=False, jobs=2, threads=1)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


SHARED = """
import json, logging, sys
from mmgraph_robust.experiment import RunConfig, run
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
run(RunConfig(json.loads(sys.argv[1])), sys.argv[2], progress=False, threads=1)
"""


def start(config, folder, jobs=1):
    script = SHARED.replace("threads=1", f"threads=1, jobs={jobs}")
    command = [sys.executable, "-W", "ignore", "-c", script, json.dumps(config), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_runs_in_one_folder_share_the_work(tmp_path):
    config = CONFIG | {"models": CONFIG["models"][1:], "seeds": [0, 1, 2]}
    both = [start(config, tmp_path / "shared") for _ in range(2)]
    told = "".join(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], told
    run(RunConfig(config), tmp_path / "alone", progress=False, threads=1)
    assert numbers(tmp_path / "shared") == numbers(tmp_path / "alone")
    # Six trainings, each done by one of the two.
    done = [line for line in told.splitlines() if "cells in" in line]
    assert len(done) == len({line.split("] ")[1].split(":")[0] for line in done}) == 6


def test_sigkill_costs_nothing_that_was_done(tmp_path):
    config = CONFIG | {"models": CONFIG["models"][1:], "training": {"max_epochs": 6, "batch_size": 128}}
    process = start(config, tmp_path / "killed")
    while process.poll() is None and len(list((tmp_path / "killed").glob("entries/*.json"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = {p.name: p.read_bytes() for p in (tmp_path / "killed" / "entries").glob("*.json")}
    assert 3 <= len(before) < 20
    run(RunConfig(config), tmp_path / "killed", progress=False, threads=1)
    run(RunConfig(config), tmp_path / "whole", progress=False, threads=1)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    for name, content in before.items():
        assert (tmp_path / "killed" / "entries" / name).read_bytes() == content


def children(process):
    """The processes that one has started and that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and int(parent) == process.pid:
                found.add(int(path.parent.name))
    return found


def all_end(pids):
    """Whether all of these processes end, or have ended, within ten seconds."""
    for _ in range(200):
        alive = []
        for pid in pids:
            with suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    alive.append(pid)
        if not alive:
            return True
        time.sleep(0.05)
    return False


def until_it_trains(process, folder):
    while process.poll() is None and not list((folder / "checkpoints").glob("*.pt")):
        time.sleep(0.05)


LONG = CONFIG | {
    "models": CONFIG["models"][1:],
    "seeds": list(range(10)),
    "training": {"max_epochs": 2000, "patience": 2000},
}
LISTS_PROCESSES = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes where Linux lists them")


@LISTS_PROCESSES
def test_workers_end_with_a_run_that_is_asked_to_end(tmp_path):
    process = start(LONG, tmp_path / "ended", jobs=2)
    until_it_trains(process, tmp_path / "ended")
    theirs = children(process)
    assert len(theirs) >= 2
    os.kill(process.pid, signal.SIGTERM)
    told, _ = process.communicate()
    assert "Terminated" in told
    assert all_end(theirs)


@LISTS_PROCESSES
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_command_ends_with_one_line(tmp_path, jobs):
    """Ctrl-C is heard by all processes of a terminal."""
    (tmp_path / "c.json").write_text(json.dumps(LONG))
    command = [sys.executable, "-c", "from mmgraph_robust.cli.main import app; app()", "run", str(tmp_path / "c.json")]
    options = ["--out", str(tmp_path / "run"), "--jobs", str(jobs), "--threads", "1"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    until_it_trains(process, tmp_path / "run")
    theirs = children(process)
    assert (len(theirs) >= 2) == (jobs > 1)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate()
    assert process.returncode == 130
    *before, last = told.splitlines()
    assert last == "interrupted; the same command goes on from here"
    assert not any(word in line for line in before for word in ("Traceback", "Error", "Warning"))
    assert all_end(theirs)


def test_a_changed_configuration_adds_what_is_missing_and_shows_no_other(tmp_path, caplog):
    run(RunConfig(SMALL), tmp_path, progress=False)
    more = SMALL | {"attacks": [*SMALL["attacks"], {"name": "SingleStep", "modalities": ["all"]}]}
    before = set(numbers(tmp_path))
    (entry,) = run(RunConfig(more), tmp_path, progress=False)
    assert [a["attack"] for a in entry["attacks"]].count("SingleStep") == 1
    assert len(set(numbers(tmp_path)) - before) == 1
    with caplog.at_level(logging.WARNING):
        (entry,) = run(RunConfig(SMALL | {"training": {"max_epochs": 3}}), tmp_path, progress=False)
    assert "holds 6 results that are not asked for (of toy VBPR none): they stay there" in caplog.text
    assert entry["training"]["epochs"] == 3
    assert report(tmp_path) == [entry]
    with pytest.raises(ConfigError, match="jobs"):
        run(RunConfig(SMALL), tmp_path, jobs=0)


def test_a_run_that_goes_on_with_more_goals_reports_what_a_fresh_one_does(tmp_path):
    def promote(folder, seeds, *among):
        goals = [{"name": "Promote", "count": 2, "among": one} for one in among]
        attack = {"name": "PGD", "steps": 1, "modalities": ["all"], "goals": goals}
        return run(RunConfig(SMALL | {"seeds": seeds, "attacks": [attack]}), tmp_path / folder, progress=False)

    fresh = goal_table(promote("fresh", [0, 1], "popular", "cold"))
    assert [row[3].split()[:2] for row in fresh.rows] == [["PGD", "on"], ["PGD", "#2"]]
    promote("more", [0], "cold")
    assert goal_table(promote("more", [0, 1], "popular", "cold")) == fresh
    # Also where no cell of a seed is missing.
    promote("turned", [0], "cold", "popular")
    assert goal_table(promote("turned", [0, 1], "popular", "cold")) == fresh
    assert (tmp_path / "turned" / "table.csv").read_text() == (tmp_path / "fresh" / "table.csv").read_text()


def test_results_of_another_label_are_not_shown(tmp_path, caplog):
    run(RunConfig(SMALL), tmp_path, progress=False)
    renamed = RunConfig(SMALL | {"models": [SMALL["models"][0] | {"label": "renamed"}]})
    with caplog.at_level(logging.WARNING):
        entries = run(renamed, tmp_path, progress=False)
    assert "holds 5 results that are not asked for (of toy VBPR none)" in caplog.text
    assert [entry["model"] for entry in entries] == ["renamed"]
    assert report(tmp_path) == read_source(tmp_path) == entries
    assert [entry["model"] for entry in keep(tmp_path, tmp_path / "kept")] == ["renamed"]
    # A plan of an earlier version names keys, which hold no labels.
    plan = read_json(tmp_path / "plan.json")
    keys = [read_json(tmp_path / "entries" / file)["key"] for file in plan.pop("files")]
    write_json(tmp_path / "plan.json", plan | {"keys": keys})
    assert {entry["model"] for entry in report(tmp_path)} == {"renamed", "VBPR"}
    write_json(tmp_path / "plan.json", plan | {"keys": keys[:3]})
    assert all(len(entry["attacks"]) < 4 for entry in report(tmp_path))


def test_changed_data_are_not_mixed_into_a_run(tmp_path, caplog):
    run(RunConfig(SMALL), tmp_path, progress=False)
    other = SMALL | {"data": SMALL["data"] | {"seed": 5}}
    with caplog.at_level(logging.WARNING):
        (entry,) = run(RunConfig(other), tmp_path, progress=False)
    assert "those of toy are of other data" in caplog.text
    assert len(entry["attacks"]) == 4


def test_a_failing_cell_costs_no_other(tmp_path):
    # One modality: nothing can pay for it, so balancing fails in setup; the undefended cells must be there.
    config = RunConfig(CONFIG | {"data": CONFIG["data"] | {"modalities": {"visual": 6}}, "seeds": [0]})
    with pytest.raises(MMGraphError, match="3 of 9 cells failed.*toy-VBPR-ModalityBalancing-seed0: DataError"):
        run(config, tmp_path, progress=False)
    assert {name.split("-seed")[0] for name in numbers(tmp_path)} == {"toy-LightGCN-none", "toy-VBPR-none"}
    assert (tmp_path / "report.html").exists()


def test_damaged_and_foreign_files_are_told_by_name_and_kept(tmp_path, caplog):
    run(RunConfig(SMALL), tmp_path, progress=False)
    whole = numbers(tmp_path)
    torn, swapped, *_ = sorted((tmp_path / "entries").glob("*.json"))
    torn.write_text(torn.read_text()[:100])
    swapped.write_text(json.dumps(json.loads(swapped.read_text()) | {"key": "0"}))
    (tmp_path / "entries" / "notes.json").write_text("[1, 2]")
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match=r"skipped 'notes\.json'"):
        run(RunConfig(SMALL), tmp_path, progress=False)
    for path in (torn, swapped):
        assert f"{path.name} is kept as {path.name}.damaged and made anew" in caplog.text
        assert path.with_name(path.name + ".damaged").exists()
    (tmp_path / "entries" / "notes.json").unlink()
    assert numbers(tmp_path) == whole


def test_a_defense_goes_with_the_models_that_it_names_and_a_model_may_see_less(tmp_path):
    models = [
        {"name": "VBPR", "embedding_dim": 4},
        {"name": "VBPR", "embedding_dim": 4, "label": "VBPR-textual", "modalities": ["textual"]},
    ]
    defenses = [{"name": "none"}, {"name": "FeatureNoise", "only": ["VBPR"]}]
    named = {"name": "SingleStep", "modalities": ["visual"]}
    config = RunConfig(SMALL | {"models": models, "defenses": defenses, "attacks": [*SMALL["attacks"], named]})
    entries = {(e["model"], e["defense"]): e for e in run(config, tmp_path, progress=False)}
    assert set(entries) == {("VBPR", "none"), ("VBPR", "FeatureNoise"), ("VBPR-textual", "none")}
    less = entries["VBPR-textual", "none"]
    assert set(less["clean"]["margins"]) == {"id", "textual"}
    assert [a["modalities"] for a in less["attacks"] if a["attack"] == "SingleStep"] == [["visual"]]
    for attack in less["attacks"]:
        unmoved = attack["metrics"] == less["clean"]["metrics"]
        assert ("ignored_modality" in attack["flags"]) == (attack["modalities"] == ["visual"])
        assert unmoved or attack["modalities"] != ["visual"]
    with pytest.raises(ConfigError, match=r"only: unknown model 'VBRP'; did you mean 'VBPR'"):
        RunConfig(SMALL | {"defenses": [{"name": "none"}, {"name": "FeatureNoise", "only": ["VBRP"]}]})
    assert RunConfig(config.describe()).describe() == config.describe()


def test_a_suite_is_a_run_on_each_data_set_that_can_be_read(tmp_path, caplog):
    suite = Suite(
        {key: value for key, value in SMALL.items() if key not in ("data", "name")}
        | {
            "name": "two",
            "about": {"Tuning": "none"},
            "data": {"a": SMALL["data"], "b": SMALL["data"] | {"seed": 3}, "c": {"format": "mmrec", "folder": "/none"}},
            "models": [{"name": "VBPR", "embedding_dim": 4, "on": {"b": {"embedding_dim": 8}}}],
        }
    )
    with pytest.raises(MMGraphError, match="^c: DataError: .*none"):
        run(suite, tmp_path, progress=False)
    entries = {entry["dataset"]: entry for entry in report(tmp_path)}
    assert {name: e["config"]["model"]["embedding_dim"] for name, e in entries.items()} == {"a": 4, "b": 8}
    assert "c cannot be read" in caplog.text
    planned = dry_run(suite, tmp_path)
    assert [(unit.dataset, cells, left) for unit, cells, left in planned] == [("a", 5, []), ("b", 5, [])]


def test_what_is_left_is_told_from_what_was_done(tmp_path):
    run(RunConfig(SMALL), tmp_path, progress=False)
    more = SMALL | {"seeds": [0, 1], "attacks": [*SMALL["attacks"], {"name": "SingleStep", "modalities": ["all"]}]}
    first, second = dry_run(RunConfig(more), tmp_path)
    assert (first[0].seed, first[1], first[2]) == (0, 6, [None])
    assert second[1] == len(second[2]) == 6
    assert sum(seconds is None for seconds in second[2]) == 1
    assert all(seconds > 0 for seconds in second[2] if seconds is not None)


def test_the_published_settings_train_every_model_and_show_the_numbers_beside(tmp_path):
    """On a made-up shop in the place of Amazon's, for one epoch."""
    shop = mr.synthetic(num_users=60, num_items=40, modalities={"visual": 6, "textual": 5}, seed=0)
    write_mmrec(shop, tmp_path / "baby")
    config = read_config(
        Path(__file__).resolve().parents[2] / "configs" / "published" / "baby.toml",
        [f"data.folder={tmp_path / 'baby'}", "training.max_epochs=1"],
    )
    entries = run(config, tmp_path / "run", progress=False, threads=1)
    assert {entry["model"] for entry in entries} == {model.label for model in config.models}
    table = (tmp_path / "run" / "table.md").read_text()
    assert "Ours beside the published numbers" in table
    assert "| GRCN | Recall@20 | 0.0833 |" in table


def test_defenses_around_a_model_are_named_like_any_other(tmp_path):
    models = [{"name": "VBPR", "embedding_dim": 4}, {"name": "FREEDOM", "embedding_dim": 4, "knn_k": 3}]
    defenses = [
        {"name": "none"},
        {"name": "Smoothed", "only": ["VBPR"], "sigma": 0.5, "samples": 2},
        {"name": "TrustedItemGraph", "only": ["FREEDOM"], "floor": 0.2},
    ]
    config = RunConfig(SMALL | {"models": models, "defenses": defenses})
    entries = {(e["model"], e["defense"]): e for e in run(config, tmp_path, progress=False)}
    assert set(entries) == {
        ("VBPR", "none"),
        ("FREEDOM", "none"),
        ("VBPR", "Smoothed"),
        ("FREEDOM", "TrustedItemGraph"),
    }
    # Smoothing comes after training, which is that of the model alone; trust is there from the first step.
    losses = {key: [epoch["loss"] for epoch in entry["training"]["history"]] for key, entry in entries.items()}
    assert losses["VBPR", "Smoothed"] == losses["VBPR", "none"]
    assert losses["FREEDOM", "TrustedItemGraph"] != losses["FREEDOM", "none"]
    assert entries["FREEDOM", "TrustedItemGraph"]["config"]["defense"]["floor"] == 0.2
    assert len(entries["FREEDOM", "TrustedItemGraph"]["attacks"]) == 4
    wrong = SMALL | {"models": models, "defenses": [{"name": "TrustedItemGraph", "only": ["VBPR"]}]}
    with pytest.raises(ConfigError, match=r"defenses\.TrustedItemGraph, around VBPR: 'VBPR' reads no item graph"):
        run(RunConfig(wrong), tmp_path / "wrong", progress=False)
    with pytest.raises(ConfigError, match="unknown key 'flor'; did you mean 'floor'"):
        RunConfig(SMALL | {"models": models, "defenses": [{"name": "TrustedItemGraph", "flor": 0.1}]})


def test_a_defense_that_plugs_in_may_have_another_around_the_model(tmp_path):
    models = [{"name": "LATTICE", "embedding_dim": 4, "knn_k": 3, "refresh_every": 1}]
    listwise = {"name": "ListwiseAdversarialTraining", "rivals": 8}
    soft = {"name": "TrustedItemGraph", "floor": 1.0}
    defenses = [
        {"name": "none"}, soft, listwise, listwise | {"label": "both", "wrapper": soft},
        listwise | {"label": "smoothed", "wrapper": {"name": "Smoothed", "samples": 2}},
    ]  # fmt: skip
    config = RunConfig(SMALL | {"models": models, "defenses": defenses})
    assert RunConfig(config.describe()).describe() == config.describe()
    entries = {e["defense"]: e for e in run(config, tmp_path, progress=False)}
    losses = {key: [epoch["loss"] for epoch in entry["training"]["history"]] for key, entry in entries.items()}
    # Around the model from the first step, or only once it is trained.
    assert len({str(losses[name]) for name in ("none", "TrustedItemGraph", "ListwiseAdversarialTraining", "both")}) == 4
    assert losses["smoothed"] == losses["ListwiseAdversarialTraining"]
    data = config.build_data()
    inside = mr.models.LATTICE.from_data(data, embedding_dim=4, knn_k=3, refresh_every=1, seed=0)
    model = mr.defenses.TrustedItemGraph(inside, data, floor=1.0)
    history = mr.fit(
        model, data, mr.defenses.ListwiseAdversarialTraining(rivals=8), seed=0, progress=False, **config.training
    )
    assert [record["loss"] for record in history.records] == losses["both"]
    assert RunConfig(SMALL | {"models": models, "defenses": [listwise | {"wrapper": soft}]}).defenses[0].label == (
        "ListwiseAdversarialTraining+TrustedItemGraph"
    )
    told = entries["both"]["config"]["defense"]
    assert (told["name"], told["wrapper"]["name"], told["wrapper"]["floor"]) == (listwise["name"], soft["name"], 1.0)
    for entry, match in (
        (soft | {"wrapper": soft}, "goes around the model itself, and takes no 'wrapper'"),
        (listwise | {"wrapper": listwise}, "defenses.ListwiseAdversarialTraining.wrapper: .* goes around no model"),
        (listwise | {"wrapper": "TrustedItemGraph"}, "wrapper: expects the name and the arguments of a defense"),
        (listwise | {"wrapper": soft | {"flor": 1.0}}, "unknown key 'flor'; did you mean 'floor'"),
        ({"name": "none", "wrapper": soft}, "defenses.none takes no arguments .got wrapper"),
    ):
        with pytest.raises(ConfigError, match=match):
            RunConfig(SMALL | {"models": models, "defenses": [entry]})


def test_two_labels_of_one_setting_are_two_units_and_train_once(tmp_path):
    models = [{"name": "VBPR", "embedding_dim": 4}, {"name": "VBPR", "embedding_dim": 4, "label": "again"}]
    entries = run(RunConfig(SMALL | {"models": models}), tmp_path, progress=False)
    assert [(e["model"], len(e["attacks"])) for e in entries] == [("VBPR", 4), ("again", 4)]
    assert entries[0]["clean"] == entries[1]["clean"]
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 1


def test_trained_models_are_only_read(tmp_path, monkeypatch):
    """So they may lie where nothing can be written, as shared ones do."""
    tried = []
    room = importlib.import_module("mmgraph_robust.experiment.run")
    monkeypatch.setattr(room, "check_out", lambda out, kind: tried.append(Path(out).name))
    run(RunConfig(SMALL), tmp_path, progress=False)
    assert "models" in tried
    tried.clear()
    run(RunConfig(SMALL | {"attacks": CONFIG["attacks"][1:]}), tmp_path, progress=False)
    assert "models" not in tried
    assert {"entries", "checkpoints"} <= set(tried)


def test_another_metric_trains_nothing_anew(tmp_path):
    run(RunConfig(SMALL), tmp_path, progress=False)
    (model,) = (tmp_path / "models").glob("*.safetensors")
    written = model.stat().st_mtime_ns
    (entry,) = run(RunConfig(SMALL | {"evaluation": {"k": [5], "metric": "ndcg@5"}}), tmp_path, progress=False)
    assert set(entry["clean"]["per_user"]) == {"ndcg@5"}
    assert len(entry["attacks"]) == 4
    assert model.stat().st_mtime_ns == written


def test_attacks_are_measured_on_the_model_of_their_training(tmp_path):
    config = SMALL | {"seeds": [0, 1]}
    run(RunConfig(config), tmp_path, progress=False)
    first, second = sorted((tmp_path / "models").glob("*.safetensors"))
    first.write_bytes(second.read_bytes())
    more = RunConfig(config | {"attacks": [*SMALL["attacks"], {"name": "SingleStep", "modalities": ["all"]}]})
    with pytest.raises(
        MMGraphError, match=r"1 of 12 cells failed.*is not the model that the \.json beside it tells of"
    ):
        run(more, tmp_path, progress=False)
    # Trained anew to other weights, as by another machine: the entries tell of another model.
    first.unlink()
    record = first.with_suffix(".json")
    other = json.loads(second.with_suffix(".json").read_text())
    record.write_text(json.dumps(other))
    first.write_bytes(second.read_bytes())
    with pytest.raises(MMGraphError, match="1 of 12 cells failed.*is another than the one that"):
        run(more, tmp_path, progress=False)
    first.unlink()
    record.unlink()
    assert all(len(entry["attacks"]) == 5 for entry in run(more, tmp_path, progress=False))


def test_a_damaged_model_is_kept_and_trained_anew(tmp_path, caplog):
    run(RunConfig(SMALL), tmp_path, progress=False)
    whole = numbers(tmp_path)
    (model,) = (tmp_path / "models").glob("*.safetensors")
    for count in (1, 2):
        model.write_bytes(model.read_bytes()[:-50])
        for path in list((tmp_path / "entries").glob("*Noise*.json")):
            path.unlink()
        run(RunConfig(SMALL), tmp_path, progress=False)
        assert len(list((tmp_path / "models").glob("*.damaged*"))) == count
    assert "is kept as" in caplog.text
    assert numbers(tmp_path) == whole


def test_an_attack_that_fails_costs_no_other(tmp_path):
    boxed = {"name": "PGD", "steps": 2, "modalities": ["all"], "box": {"visual": [50.0, 60.0]}}
    config = RunConfig(SMALL | {"attacks": [boxed, {"name": "Noise", "modalities": ["all"]}]})
    with pytest.raises(MMGraphError, match="1 of 3 cells failed.*PGD.*'box' of modality"):
        run(config, tmp_path, progress=False)
    (entry,) = report(tmp_path)
    assert [attack["attack"] for attack in entry["attacks"]] == ["Noise"]


def test_an_attack_that_breaks_costs_no_other(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("of another package")

    monkeypatch.setattr(mr.attacks.SingleStep, "run", broken)
    attacks = [{"name": "SingleStep", "modalities": ["all"]}, {"name": "Noise", "modalities": ["all"]}]
    with pytest.raises(MMGraphError, match=r"1 of 3 cells failed.*ValueError: of another package \(test_run.py:"):
        run(RunConfig(SMALL | {"attacks": attacks}), tmp_path, progress=False)
    (entry,) = report(tmp_path)
    assert [attack["attack"] for attack in entry["attacks"]] == ["Noise"]


def test_an_attack_on_another_model_is_not_joined(tmp_path):
    run(RunConfig(SMALL), tmp_path, progress=False)
    training, first, *others = sorted((tmp_path / "entries").glob("*.json"), key=lambda p: len(p.name))
    entry = json.loads(first.read_text())
    first.write_text(json.dumps(entry | {"training": entry["training"] | {"weights": "of another"}}))
    others[0].unlink()
    with pytest.raises(MMGraphError, match="tells of an attack on another model than the one that is here now"):
        run(RunConfig(SMALL), tmp_path, progress=False)
    assert training.exists()


def test_what_is_kept_overwrites_no_other_training(tmp_path):
    def made(model, defense):
        models = [{"name": "VBPR", "embedding_dim": 4, "label": model}]
        defenses = [{"name": "FeatureNoise", "label": defense}]
        config = RunConfig(SMALL | {"models": models, "defenses": defenses, "attacks": []})
        run(config, tmp_path / model, progress=False)
        return keep(tmp_path / model, tmp_path / "kept")

    assert len(made("A-B", "C")) == 1
    assert {(e["model"], e["defense"]) for e in made("A", "B-C")} == {("A-B", "C"), ("A", "B-C")}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"device": "gpu"}, "'device' expects one that torch can use here"),
        ({"name": "a/b"}, {}, "name expects letters"),
        ({"defenses": [{"name": "none", "training": {"max_epoch": 3}}]}, {}, "did you mean 'max_epochs'"),
        ({"models": CONFIG["models"][:1], "defenses": [{"name": "FeatureNoise"}]}, {}, "there is nothing to run"),
    ],
)
def test_mistakes_are_told_before_any_work(tmp_path, change, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run(RunConfig(SMALL | change), tmp_path / "run", progress=False, **arguments)
    assert not (tmp_path / "run" / "entries").exists()


def test_folders_of_before_are_reported(tmp_path):
    entries = run(RunConfig(SMALL), tmp_path, progress=False)
    (tmp_path / "plan.json").unlink()
    assert report(tmp_path) == entries


def test_what_is_kept_is_the_same_in_fewer_files(tmp_path):
    entries = run(RunConfig(SMALL | {"seeds": [0, 1]}), tmp_path / "run", progress=False)
    assert keep(tmp_path / "run", tmp_path / "kept") == entries
    assert [path.name for path in sorted((tmp_path / "kept" / "entries").iterdir())] == [
        "toy-VBPR-none-0.json", "toy-VBPR-none-1.json",
    ]  # fmt: skip
    # Made from rows of the data, which may not be one's own to pass on.
    assert not any('"per_user":' in path.read_text() for path in (tmp_path / "kept").rglob("*.json"))
    assert (tmp_path / "kept" / "report.html").exists()
    assert not (tmp_path / "kept" / "models").exists()
    # Again, and from another run into the same folder.
    other = run(RunConfig(SMALL | {"seeds": [2]}), tmp_path / "other", progress=False)
    kept = keep(tmp_path / "other", tmp_path / "kept")
    assert kept == [*map(without_users, entries), *other]


def test_attacks_that_a_file_no_longer_asks_for_stay_kept(tmp_path):
    def kept(*names, **changes):
        attacks = [{"name": name, "modalities": ["all"]} for name in names]
        run(RunConfig(SMALL | {"attacks": attacks} | changes), tmp_path / "run", progress=False)
        (entry,) = keep(tmp_path / "run", tmp_path / "kept")
        assert [without_users(entry)] == read_source(tmp_path / "kept")
        return [(attack["attack"], attack["metrics"]) for attack in entry["attacks"]]

    pgd, noise = kept("SingleStep", "Noise")
    assert kept("SingleStep") == [pgd, noise]
    # What was added comes first, and nothing twice.
    assert [name for name, _ in kept("MIM", "SingleStep")] == ["MIM", "SingleStep", "Noise"]
    assert [name for name, _ in kept("Noise", "MIM", "SingleStep")] == ["Noise", "MIM", "SingleStep"]
    # Another training, with another model.
    assert [name for name, _ in kept("Noise", training={"max_epochs": 1})] == ["Noise"]


def test_a_run_is_not_kept_in_its_own_folder(tmp_path, monkeypatch):
    entries = run(RunConfig(SMALL | {"attacks": []}), tmp_path / "run", progress=False)
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path / "run")
    for same in (tmp_path / "run", tmp_path / "link", ".", "../run/"):
        with pytest.raises(ConfigError, match="'keep' expects another folder than that of the run"):
            keep(tmp_path / "run", same)
    assert report(tmp_path / "run") == entries


def test_what_tests_over_users_showed_is_kept_without_the_users(tmp_path):
    defended = SMALL | {"defenses": [{"name": "none"}, {"name": "FeatureNoise", "sigma": 3.0}]}
    run(RunConfig(defended), tmp_path / "run", progress=False)
    keep(tmp_path / "run", tmp_path / "kept")
    with_users = (tmp_path / "kept" / "table.md").read_text()
    page = (tmp_path / "kept" / "report.html").read_text()
    assert "Users were drawn anew" in with_users
    before = read_tests(tmp_path / "kept" / "tests.json")
    # Clean features and every attack, also where tables would show some only.
    assert len(before) == 1 + len(RunConfig(SMALL).build_attacks(RunConfig(SMALL).build_data()))
    report(tmp_path / "kept")
    assert (tmp_path / "kept" / "table.md").read_text() == with_users
    assert (tmp_path / "kept" / "report.html").read_text() == page
    # Kept once more, next to results of another run: what was tested before stays so.
    run(RunConfig(SMALL | {"models": [SMALL["models"][0] | {"label": "Other"}]}), tmp_path / "other", progress=False)
    keep(tmp_path / "other", tmp_path / "kept")
    again = read_tests(tmp_path / "kept" / "tests.json")
    assert again == before
    assert "Users were drawn anew" in (tmp_path / "kept" / "table.md").read_text()
    # By another metric, and from a folder of what was kept.
    run(RunConfig(defended | {"evaluation": {"metric": "ndcg@20"}}), tmp_path / "by-ndcg", progress=False)
    keep(tmp_path / "by-ndcg", tmp_path / "kept")
    both = read_tests(tmp_path / "kept" / "tests.json")
    assert before.items() < both.items()
    assert {key[0] for key in both} == {"recall@20", "ndcg@20"}
    keep(tmp_path / "kept", tmp_path / "once-more")
    assert read_tests(tmp_path / "once-more" / "tests.json") == both
    assert read_source(tmp_path / "once-more")
