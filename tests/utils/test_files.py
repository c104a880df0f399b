import pytest

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.utils import atomic_write, read_json, sha256_file, write_json


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path, "w") as file:
        file.write("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"b": 1})
    assert read_json(path) == {"b": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"b": 1}
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_json(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x").startswith("ba7816bf8f01cfea")
