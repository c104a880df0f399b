import json

from benchmarks.tuning.__main__ import main, memory, overhead


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
