"""Who does what, among processes that share a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Not on Windows; there a folder belongs to one process.
    fcntl = None


@contextmanager
def claim(path: str | Path) -> Iterator[bool]:
    """Takes a lock file without waiting, and gives it back at the end, or when the process dies.

    Args:
        path: The lock file; processes on other machines see it where the file system knows such locks.

    Yields:
        Whether it is ours; not, while another process has it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        mine = _lock(handle, path)
        yield mine
        if mine:
            # While it is still ours: whoever opened it in between finds that it is no longer the file of that name.
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.fstat(handle).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False
