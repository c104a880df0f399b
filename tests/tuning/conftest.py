"""A small study, and a real PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import optuna
import pytest

from mmgraph_robust.tuning import StudyConfig, open_study

TOY = {
    "name": "toy",
    "data": {"format": "synthetic", "num_users": 60, "num_items": 40, "modalities": {"visual": 6, "textual": 5}},
    "training": {"max_epochs": 2, "batch_size": 128},
    "models": [{"name": "VBPR", "embedding_dim": 8}],
    "attacks": [{"name": "PGD", "steps": 2, "modalities": ["all"]}],
    "study": {"objective": "clean", "trials": 4},
}


def change(values, **sections):
    """A copy of a study file with other values: whole keys, or some of the keys of a table."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for key, value in sections.items():
        result[key] = result.get(key, {}) | value if isinstance(value, dict) else value
    return result


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def toy():
    """The values of a small study file, and what changes them."""
    return lambda **sections: StudyConfig(change(TOY, **sections))


@pytest.fixture
def begin(toy):
    """Begins a small study in memory."""

    def make(**sections):
        config = toy(**sections)
        return config, open_study(config, optuna.storages.InMemoryStorage())

    return make


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server that runs for these tests only."""
    programs = {name: _program(name) for name in ("initdb", "pg_ctl", "createdb")}
    if None in programs.values():
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # The server refuses to run as root, and must be able to reach its folder as whom it runs.
    user = _user() if os.geteuid() == 0 else None
    prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"

    def run(program, *arguments):
        command = [*prefix, programs[program], *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=300)

    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        run("initdb", "-D", str(folder / "data"), "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale")
        run("pg_ctl", "-D", str(folder / "data"), "-w", "-t", "200", "-l", str(folder / "log"), "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "tests", "studies")
            yield f"postgresql://tests:secret@127.0.0.1:{port}/studies"
        finally:
            run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user():
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _program(name):
    """Debian keeps the server's programs off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)
