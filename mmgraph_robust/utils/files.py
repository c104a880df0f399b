"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from mmgraph_robust.errors import CheckpointError, ConfigError


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` and renames it onto `path` once all of it is on the disk.

    A reader, or a process that is killed half-way, sees the old file or the new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; a result is an ordinary file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_out(out: str | Path, kind: Literal["file", "folder"]) -> None:
    """Sees that results can be written there: before hours of work, not after.

    Args:
        out: Where they are to go; it need not be there.
        kind: What it is to be.

    Raises:
        ConfigError: If it is the other kind, or nothing can be written there.
    """
    out = Path(out)
    if out.exists() and out.is_dir() != (kind == "folder"):
        there = "folder" if out.is_dir() else "file"
        raise ConfigError(f"results go into a {kind}, and '{out}' is a {there}: choose another name")
    # A file is written beside its place and renamed: what counts is its folder, or the one in which that is made.
    folder = out.absolute() if kind == "folder" else out.absolute().parent
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise ConfigError(f"'{out}' cannot be made: '{place}' is a file and no folder: choose another place")
    try:
        # Tried, not asked for: rights say nothing of a file system that takes no files.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(
            f"'{out}' cannot be made: '{place}' may not be written to ({error.strerror}): choose another place"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Writes strict JSON (NaN and infinity are refused) atomically, keys in their given order."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        CheckpointError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable JSON file ({error}); delete it and run again") from error


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
