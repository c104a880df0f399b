"""Where a study is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mmgraph_robust.errors import CheckpointError, ConfigError, unknown_name
from mmgraph_robust.tuning.journal import make_folder_of, open_journal

_JOURNALS = (".journal", ".log", ".jsonl")
_DATABASES = (".db", ".sqlite", ".sqlite3")
_HEARTBEAT_S = 60
_GRACE_S = 300

Requeue = Callable[[optuna.Study, FrozenTrial], None]
"""What is done about a trial whose worker died."""


def default_storage(folder: Path, workers: int) -> str:
    """The storage of a study that names none: the one in its folder, else SQLite for one worker, a journal for more."""
    database, journal = folder / "study.db", folder / "study.journal"
    if database.exists() != journal.exists():
        return str(database if database.exists() else journal)
    return str(database if workers == 1 else journal)


def check_storage(storage: str, workers: int = 1) -> str:
    """The storage as a URL of a database, or the path of a journal.

    Args:
        storage: A path that ends in ``.db`` (SQLite) or ``.journal``, or a URL such as
            ``postgresql://user@host/name``.
        workers: Number of processes that are to share it.

    Raises:
        ConfigError: If it is of no known kind, or cannot serve so many.
    """
    if "://" not in storage:
        suffix = Path(storage).suffix
        if suffix in _JOURNALS:
            return storage
        if suffix not in _DATABASES:
            raise ConfigError(f"--storage {storage}: {unknown_name('ending', suffix, (*_JOURNALS, *_DATABASES))}")
        storage = f"sqlite:///{storage}"
    try:
        url = make_url(storage)
    except ArgumentError as error:
        raise ConfigError(f"--storage: not a URL of a database ({error})") from None
    if url.get_backend_name() == "sqlite":
        if workers > 1:
            raise ConfigError(
                f"--storage {storage}: SQLite serves one process (got {workers} workers): use a path that ends in "
                "'.journal', or PostgreSQL"
            )
    elif url.get_backend_name() == "postgresql":
        if find_spec("psycopg") is None:
            raise ConfigError("--storage: PostgreSQL needs psycopg: pip install 'mmgraph_robust[postgres]'")
        url = url.set(drivername="postgresql+psycopg")
    else:
        raise ConfigError(f"--storage: {unknown_name('database', url.get_backend_name(), ('sqlite', 'postgresql'))}")
    return url.render_as_string(hide_password=False)


def shown(storage: str) -> str:
    """The storage without its password, for people and files."""
    return make_url(storage).render_as_string(hide_password=True) if "://" in storage else storage


def has_heartbeat(storage: str) -> bool:
    """Whether the storage knows by itself which workers live."""
    return "://" in storage and make_url(storage).get_backend_name() != "sqlite"


def open_storage(
    storage: str, requeue: Requeue | None = None, *, heartbeat: int = _HEARTBEAT_S, grace: int = _GRACE_S
) -> BaseStorage:
    """Opens (or begins) a storage.

    Args:
        storage: See :func:`check_storage`.
        requeue: What is done about trials whose heartbeat has stopped (PostgreSQL only; the others have none).
        heartbeat: Seconds between two heartbeats of a running trial.
        grace: Seconds without one after which its worker counts as dead.

    Raises:
        ConfigError: If it is of no known kind.
        CheckpointError: If it cannot be reached, or is damaged.
    """
    storage = check_storage(storage)
    if "://" not in storage:
        return open_journal(storage)
    url = make_url(storage)
    options: dict[str, Any] = {"pool_pre_ping": True}
    beat: dict[str, Any] = {}
    if not has_heartbeat(storage):
        if url.database:
            make_folder_of(Path(url.database))
        options = {"connect_args": {"timeout": 60}}
    else:
        beat = {"heartbeat_interval": heartbeat, "grace_period": grace, "heartbeat_stale_trial_callback": requeue}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return RDBStorage(storage, engine_kwargs=options, **beat)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            raise CheckpointError(f"cannot open the storage {shown(storage)}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
