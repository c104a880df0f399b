import json
from pathlib import Path

import pytest

import mmgraph_robust as mr
from mmgraph_robust.data import write_mmrec
from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment import RunConfig, read_config, run

CONFIG = {
    "name": "toy", "seeds": [0, 1],
    "data": {"format": "synthetic", "num_users": 60, "num_items": 40, "modalities": {"visual": 6, "textual": 5}},
    "training": {"max_epochs": 2, "batch_size": 128},
    "models": [{"name": "LightGCN", "embedding_dim": 4}, {"name": "VBPR", "embedding_dim": 4}],
    "defenses": [{"name": "ModalityBalancing", "sensitive": "auto"}, {"name": "none"}],
    "attacks": [{"name": "PGD", "steps": 2}, {"name": "Noise", "modalities": ["all"]}],
}  # fmt: skip


def numbers(folder):
    result = {}
    for path in sorted((folder / "entries").glob("*.json")):
        entry = json.loads(path.read_text())
        result[path.name] = [entry["clean"], [(a["attack"], a["metrics"], a["margins"]) for a in entry["attacks"]]]
    return result


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path):
    config = RunConfig(CONFIG)
    entries = run(config, tmp_path / "a", progress=False)
    # LightGCN cannot be defended: two seeds of it, and of VBPR with and without.
    assert len(entries) == 6
    whole = numbers(tmp_path / "a")
    for name in ("report.html", "table.md", "table.csv", "config.json"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    assert not list((tmp_path / "a" / "checkpoints").glob("*"))
    run(config, tmp_path / "b", progress=False)
    lost = tmp_path / "b" / "entries" / "VBPR-ModalityBalancing-seed1.json"
    lost.unlink()
    kept = (tmp_path / "b" / "entries" / "VBPR-none-seed1.json").stat().st_mtime_ns
    run(RunConfig(json.loads((tmp_path / "b" / "config.json").read_text())), tmp_path / "b", progress=False)
    assert numbers(tmp_path / "b") == whole
    assert (tmp_path / "b" / "entries" / "VBPR-none-seed1.json").stat().st_mtime_ns == kept


def test_two_processes_give_the_numbers_of_one(tmp_path):
    config = RunConfig(CONFIG | {"models": CONFIG["models"][1:], "defenses": [{"name": "none"}]})
    run(config, tmp_path / "one", progress=False, threads=1)
    run(config, tmp_path / "two", progress=False, jobs=2, threads=1)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


def test_a_folder_of_another_run_is_refused(tmp_path):
    small = CONFIG | {"models": CONFIG["models"][:1], "seeds": [0]}
    run(RunConfig(small), tmp_path, progress=False)
    with pytest.raises(ConfigError, match=r"another configuration \(different: training\)"):
        run(RunConfig(small | {"training": {"max_epochs": 3}}), tmp_path, progress=False)
    with pytest.raises(ConfigError, match="jobs"):
        run(RunConfig(small), tmp_path, jobs=0)


def test_a_failing_cell_costs_no_other(tmp_path):
    # One modality: nothing can pay for it, so balancing fails in setup; the undefended cells must be there.
    config = RunConfig(CONFIG | {"data": CONFIG["data"] | {"modalities": {"visual": 6}}, "seeds": [0]})
    with pytest.raises(MMGraphError, match="1 of 3 cells failed.*VBPR-ModalityBalancing-seed0"):
        run(config, tmp_path, progress=False)
    assert set(numbers(tmp_path)) == {"LightGCN-none-seed0.json", "VBPR-none-seed0.json"}
    assert (tmp_path / "report.html").exists()


def test_changed_data_are_not_mixed_into_a_run(tmp_path):
    config = RunConfig(CONFIG | {"models": CONFIG["models"][1:], "defenses": [{"name": "none"}]})
    run(config, tmp_path, progress=False)
    path = tmp_path / "entries" / "VBPR-none-seed0.json"
    entry = json.loads(path.read_text())
    entry["provenance"]["data_hash"] = "0"
    path.write_text(json.dumps(entry))
    (tmp_path / "entries" / "VBPR-none-seed1.json").unlink()
    with pytest.raises(ConfigError, match="made from other data"):
        run(config, tmp_path, progress=False)


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
