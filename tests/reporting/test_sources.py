"""Files, folders and commits that hold results."""

from __future__ import annotations

import subprocess

import pytest

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.reporting import read_source
from mmgraph_robust.utils import write_json


@pytest.fixture
def repository(tmp_path, monkeypatch, entry):
    """A repository whose first commit holds one seed and whose second holds two; the current folder."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    root = tmp_path / "repository"
    write_json(root / "results" / "hm" / "a.json", entry(seed=0))
    commit(root, "first")
    write_json(root / "results" / "hm" / "b.json", entry(seed=1))
    write_json(root / "run" / "config.json", {"no": "entry"})
    write_json(root / "run" / "entries" / "c.json", entry(seed=2))
    commit(root, "second")
    monkeypatch.chdir(root)
    return root


def commit(root, message):
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e"]
    if not (root / ".git").exists():
        subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", message], check=True)


def seeds(source):
    return [entry["seed"] for entry in read_source(source)]


def test_files_and_folders(repository):
    assert seeds("results/hm/b.json") == [1]
    assert seeds(repository / "results" / "hm") == [0, 1]
    assert seeds("run") == [2]
    assert seeds("run/entries") == [2]


def test_commits(repository, monkeypatch):
    assert seeds("HEAD:results/hm") == [0, 1]
    assert seeds("HEAD~1:results/hm") == [0]
    assert seeds("HEAD:results/hm/b.json") == [1]
    assert seeds("HEAD:run") == [2]
    # The commit is read, not what lies there now.
    (repository / "results" / "hm" / "b.json").unlink()
    assert seeds("HEAD:results/hm") == [0, 1]
    monkeypatch.chdir(repository / "results")
    assert seeds("HEAD:results/hm") == [0, 1]
    assert seeds("HEAD:./hm") == [0, 1]


def test_a_file_with_a_colon_in_its_name_is_a_file(repository, entry):
    write_json(repository / "HEAD:run", entry(seed=9))
    assert seeds("HEAD:run") == [9]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such result file or folder: nowhere"),
        ("HEAD~9:results", "no commit 'HEAD~9'"),
        ("--help:results", "no commit '--help'"),
        ("HEAD:results/toys", "commit 'HEAD' has no 'results/toys'"),
        ("HEAD~1:run", "commit 'HEAD~1' has no 'run'"),
    ],
)
def test_what_is_not_there_is_named(repository, source, message):
    with pytest.raises(ConfigError, match=message):
        read_source(source)


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ConfigError, match="is in no git repository"):
        read_source("HEAD:results")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="git, which cannot be run"):
        read_source("HEAD:results")


def test_nothing_in_it_is_an_error(repository, tmp_path):
    with pytest.raises(CheckpointError, match="HEAD:results holds no result entries"):
        read_source("HEAD:results")
    with pytest.raises(CheckpointError, match="JSON object|schema"):
        read_source("HEAD:run/config.json")
