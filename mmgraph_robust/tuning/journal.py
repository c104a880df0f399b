"""Journal files that outlive their writers."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from datetime import datetime, timezone
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mmgraph_robust.errors import CheckpointError

_LOG = logging.getLogger(__name__)


class FileLock:
    """One process at a time, by the operating system's own lock: whoever is killed lets go of it at once.

    Optuna's locks are files that a killed process leaves behind, and that others break after half a minute, also those
    of a process that is merely slow.

    Args:
        path: A file beside what is protected; it is made and never removed.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Lets go of the lock, where it is held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class _JournalLock(FileLock):
    """The lock of a journal, which mends the journal before anything is written behind a torn line."""

    def __init__(self, journal: Path) -> None:
        super().__init__(f"{journal}.lock")
        self._journal = journal

    def acquire(self) -> bool:
        """Waits for the lock, and mends the journal."""
        super().acquire()
        try:
            mend(self._journal)
        except BaseException:
            self.release()
            raise
        return True


def mend(journal: str | Path) -> Path | None:
    """Cuts an unfinished last line off a journal, what its writer left when it was killed, once a copy is made.

    Only to be called while nobody writes.

    Args:
        journal: The file.

    Returns:
        The copy, or None where the journal is whole.
    """
    journal = Path(journal)
    with open(journal, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return None
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return None
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
    copy = journal.with_name(f"{journal.name}.torn-{now}")
    shutil.copyfile(journal, copy)
    with open(journal, "r+b") as file:
        file.truncate(whole)
        os.fsync(file.fileno())
    _LOG.warning("%s ended in an unfinished line, which was cut off; a copy of it all is %s", journal, copy)
    return copy


def make_folder_of(path: Path) -> None:
    """Makes the folder of a storage, where there is none.

    Raises:
        CheckpointError: If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot open the storage {path}: {error.strerror} ('{path.parent}')") from error


def open_journal(path: str | Path) -> JournalStorage:
    """Opens (or begins) a journal for any number of processes.

    Raises:
        CheckpointError: If the file cannot be opened, or is damaged elsewhere than at its end.
    """
    path = Path(path)
    make_folder_of(path)
    lock = _JournalLock(path)
    try:
        backend = JournalFileBackend(str(path), lock)  # type: ignore[arg-type]
        lock.acquire()
        lock.release()
    except OSError as error:
        raise CheckpointError(f"cannot open the storage {path}: {error.strerror}") from error
    try:
        return JournalStorage(backend)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no journal of a study, or is damaged ({type(error).__name__}: {error}): "
            "take a copy of it from before, or begin another"
        ) from error
