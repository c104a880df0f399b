import pytest

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.utils import atomic_write, check_out, read_json, sha256_file, write_json


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


def test_where_results_may_go(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for out, kind in (
        (file, "file"),
        (tmp_path / "new", "file"),
        (tmp_path, "folder"),
        (tmp_path / "a" / "b", "folder"),
    ):
        check_out(out, kind)
    # Looked at, and left as it was.
    assert list(tmp_path.iterdir()) == [file]
    for out, kind, message in (
        (tmp_path, "file", "results go into a file, and '.*' is a folder"),
        (file, "folder", "results go into a folder, and '.*' is a file"),
        (file / "x", "file", "'.*x' cannot be made: '.*file' is a file and no folder"),
        (file / "x" / "y", "folder", "'.*y' cannot be made: '.*file' is a file and no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_out(out, kind)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_may_not_be_written_to_is_refused(unwritable, kind):
    with pytest.raises(
        ConfigError, match=r"x' cannot be made: '.*' may not be written to \(.+\): choose another place"
    ):
        check_out(unwritable / "x", kind)


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x").startswith("ba7816bf8f01cfea")
