"""Who runs which trial, and what becomes of a trial whose worker is gone."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc")
_UNCLAIMED_S = 60.0
_SIGN_EVERY_S = 60.0


class Claim:
    """A worker's signature on its trial: host, process, and when it was last seen.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._signed = -float("inf")
        self.sign()

    def sign(self) -> None:
        """Says that the worker lives, once a minute at most."""
        if time.monotonic() - self._signed >= _SIGN_EVERY_S:
            self._trial.set_user_attr("worker", signature())
            self._signed = time.monotonic()


def signature() -> dict[str, Any]:
    """Host, process id, when the process began, and the time."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "began": _began(pid), "seen": time.time()}


def is_lost(trial: FrozenTrial, lost_after: float, heartbeat: bool = False) -> bool:
    """Whether the worker of a running trial is gone.

    A process of this machine is looked up; one of another machine counts as gone when it has given no sign for
    `lost_after` seconds, unless the storage knows its heartbeat and decides itself.

    Args:
        trial: A running trial.
        lost_after: Seconds.
        heartbeat: Whether the storage knows heartbeats.
    """
    worker = trial.user_attrs.get("worker")
    if worker is None:
        # Asked for, and not signed yet: a matter of milliseconds, or its worker died in them.
        return _age(trial.datetime_start) > _UNCLAIMED_S
    if worker["host"] != _host():
        return not heartbeat and time.time() - worker["seen"] > lost_after
    return _began(worker["pid"]) != worker["began"]


def recover(study: optuna.Study, retries: int, lost_after: float, heartbeat: bool = False) -> list[int]:
    """Fails the running trials whose workers are gone, and queues each again.

    Args:
        study: The study.
        retries: How often a trial is queued again at most.
        lost_after: See :func:`is_lost`.
        heartbeat: See :func:`is_lost`.

    Returns:
        The numbers of the trials found so.
    """
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_lost(trial, lost_after, heartbeat):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            # Another worker found it first, and queues it.
            continue
        found.append(trial.number)
        requeue(study, trial, retries)
    return found


def requeue(study: optuna.Study, trial: FrozenTrial, retries: int | None) -> None:
    """Queues a trial again with its parameters.

    Args:
        study: The study.
        trial: The trial that was not finished.
        retries: How often at most, counting those that died with their worker; None for one that was interrupted, which
            is no fault of its own.
    """
    died = trial.user_attrs.get("died", 0) + (retries is not None)
    if retries is not None and died > retries:
        _LOG.warning("trial %d was lost with its worker for the %dth time, and is given up", trial.number, died)
        return
    attributes = {"retry_history": [*trial.system_attrs.get("retry_history", []), trial.number]}
    if "fixed_params" in trial.system_attrs:
        attributes["fixed_params"] = trial.system_attrs["fixed_params"]
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"died": died},
            system_attrs=attributes,
        )
    )
    _LOG.warning("trial %d was not finished by its worker, and is queued again", trial.number)


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were begun, each that was queued again only once."""
    trials = list(trials)
    replaced = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [t for t in trials if t.state != TrialState.WAITING and t.number not in replaced]


def _host() -> str:
    # Containers may share a name and still not see each other's processes.
    try:
        space = os.readlink(_PROC / "self" / "ns" / "pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _began(pid: int) -> str | None:
    """When a process began, so that its number in use by another is not taken for it; None for one that is gone."""
    if not (_PROC / "self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    try:
        # After the name, which may hold anything up to its last bracket: state, ..., and the start as the 20th field.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _age(since: datetime | None) -> float:
    return float("inf") if since is None else (datetime.now(since.tzinfo) - since).total_seconds()
