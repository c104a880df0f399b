import json

from benchmarks.tuning.__main__ import main, memory, overhead
from benchmarks.tuning.table import main as table
from mmgraph_robust.tuning import final_test, read_study, tune


def test_every_trial_is_timed(tmp_path):
    found = overhead(str(tmp_path / "study.journal"), 10, tmp_path)
    assert set(found) == {"wall_s", "cpu_s", "cpu_s_last_quarter", "cpu_percent_of_ten_seconds"}
    assert found["cpu_s"] > 0
    assert abs(found["cpu_percent_of_ten_seconds"] - 10 * found["cpu_s_last_quarter"]) < 0.01


def test_memory_is_seen_over_real_trials(tmp_path):
    found = memory(str(tmp_path / "study.db"), 10, tmp_path)
    assert list(found["mb_after"]) == [str(n) for n in range(1, 11)]
    assert all(size > 50 for size in found["mb_after"].values())
    assert sum(found["states"].values()) == 10


def test_the_record(tmp_path, monkeypatch):
    import benchmarks.tuning.__main__ as room

    monkeypatch.setattr(room, "overhead", lambda storage, trials, folder: {"storage": storage})
    monkeypatch.setattr(room, "memory", lambda storage, trials, folder: {"mb_after": {}})
    main(trials=10, postgres="postgresql://host/x", out=tmp_path / "o.json")
    record = json.loads((tmp_path / "o.json").read_text())
    assert set(record["storages"]) == {"sqlite", "journal", "postgresql"}
    assert record["provenance"]["commit"]


STUDY = """
name = "small"
[data]
format = "synthetic"
num_users = 60
num_items = 40
[training]
max_epochs = 1
[[models]]
name = "VBPR"
embedding_dim = 8
[[attacks]]
name = "SingleStep"
modalities = ["all"]
[study]
objective = "attacked"
trials = 3
test_seeds = [7, 8]
"""


def test_a_study_as_a_page(tmp_path):
    (tmp_path / "small.toml").write_text(STUDY)
    config = read_study(tmp_path / "small.toml", [])
    study = tune(config, tmp_path / "study")
    table(tmp_path / "small.toml", str(tmp_path / "study" / "study.db"), overrides=None, out=tmp_path / "out")
    page = (tmp_path / "out" / "small" / "README.md").read_text()
    assert "## Test" not in page
    final_test(config, study, tmp_path / "study", progress=False)
    table(tmp_path / "small.toml", str(tmp_path / "study" / "study.db"), overrides=None, out=tmp_path / "out")
    page = (tmp_path / "out" / "small" / "README.md").read_text()
    found = study.user_attrs["test"]["results"]
    best = f"trial{study.best_trial.number}"
    gain = 100 * (found[best]["attacked"] / found["defaults"]["attacked"] - 1)
    assert f"| {best} | VBPR | none | {found[best]['clean']:.4f} | {found[best]['attacked']:.4f} |" in page
    assert f"| {gain:+.1f} % |" in page
    assert "Read once, with the fresh seeds 7, 8" in page
    pictures = {p.name for p in (tmp_path / "out" / "small").glob("*.png")}
    assert {"history-1.png", "front-1.png"} <= pictures
    assert all(f"]({name})" in page for name in pictures)
    assert (tmp_path / "out" / "small" / f"small-{best}.toml").exists()
