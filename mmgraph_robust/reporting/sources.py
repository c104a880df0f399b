"""Where results to be compared lie: a file, a folder, or a commit of a git repository."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.reporting.entries import Entry, check_entry, merge, read_entries, read_files
from mmgraph_robust.utils import read_json

PLAN = "plan.json"


def read_source(source: str | Path) -> list[Entry]:
    """Reads result entries.

    Args:
        source: A result file; a folder of them; a run folder, which keeps them in ``entries``; or ``COMMIT:PATH``, one
            of these as it stands in a commit of the git repository around the current folder. As in git, the path
            counts from the top of the repository, or from here if it begins with ``./``.

    Raises:
        CheckpointError: If a file is damaged, or there are no result entries.
        ConfigError: If there is no such file or folder, no repository, no such commit, or no such path in it.
    """
    path = Path(source)
    commit, colon, inside = str(source).partition(":")
    if path.exists() or not colon:
        return _read(path, str(source))
    with TemporaryDirectory() as folder:
        return _read(_check_out(commit, inside, Path(folder)), str(source))


def planned_files(folder: Path) -> set[str] | None:
    """Names of the files that a run folder's plan asks for; `None` for all that there are.

    The folder may hold results that its configuration no longer asks for.

    Args:
        folder: The run folder.
    """
    plan = read_json(folder / PLAN) if (folder / PLAN).exists() else {}
    if (keys := plan.get("keys")) is not None:
        # Of an earlier version, which told cells by what decides their numbers, whatever they were called.
        return {name for name, entry in read_files(folder / "entries") if entry.get("key") in keys}
    files = plan.get("files")
    return None if files is None else set(files)


def _read(path: Path, name: str) -> list[Entry]:
    if path.is_file():
        entry = read_json(path)
        check_entry(entry)
        return merge([(path.name, entry)])
    if not path.is_dir():
        raise ConfigError(f"no such result file or folder: {name}")
    inner = path / "entries"
    entries = read_entries(inner, planned_files(path)) if inner.is_dir() else read_entries(path)
    if not entries:
        raise CheckpointError(f"{name} holds no result entries")
    return entries


def _check_out(commit: str, inside: str, folder: Path) -> Path:
    """Writes a file or folder of a commit into a folder, and returns where it lies."""
    where = f"'{commit}:{inside}' is no file or folder here"
    repository = _git("rev-parse", "--absolute-git-dir")
    if repository is None:
        raise ConfigError(f"{where}, and {Path.cwd()} is in no git repository")
    # From here on by hashes, which no option of git looks like.
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    if found is None:
        raise ConfigError(f"{where}, and the git repository has no commit '{commit}'")
    thing = _git("rev-parse", "--verify", "--quiet", f"{_text(found)}:{inside}")
    if thing is None:
        raise ConfigError(
            f"commit '{commit}' has no '{inside}'; a path counts from the top of the repository, or from here with './'"
        )
    content = _git("cat-file", "blob", _text(thing))
    if content is not None:
        path = folder / Path(inside).name
        path.write_bytes(content)
        return path
    # Within the repository's own folder, since git archives no more of a tree than the part below the current one.
    archive = _git(f"--git-dir={_text(repository)}", "archive", _text(thing))
    if archive is None:
        raise CheckpointError(f"git cannot read '{commit}:{inside}'")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            # By hand: the filter that makes extracting safe is younger than some Pythons that distributions ship.
            if (file := tar.extractfile(member)) is not None and member.name.endswith(".json"):
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
    return folder


def _git(*arguments: str) -> bytes | None:
    """What git prints; `None` where it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError as error:
        raise ConfigError(f"results of a commit are read by git, which cannot be run ({error})") from error
    return None if done.returncode else done.stdout


def _text(printed: bytes) -> str:
    return printed.decode().strip()
