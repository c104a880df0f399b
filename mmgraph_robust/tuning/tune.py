"""A study, run by one process or several."""

from __future__ import annotations

import logging
import multiprocessing
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data import DataWarning
from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.training import data_hash
from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.objective import Objective, Workbench, find_reference
from mmgraph_robust.tuning.storage import check_storage, default_storage, has_heartbeat, shown
from mmgraph_robust.tuning.study import claim_value, open_study
from mmgraph_robust.tuning.worker import Objective as TrialFunction
from mmgraph_robust.tuning.worker import Tell, Worker, best_so_far
from mmgraph_robust.utils import check_out, keep_freed_memory, terminable

_LOG = logging.getLogger(__name__)
_DEATHS = 5
_WAIT_S = 30.0

Make = Callable[[StudyConfig, optuna.Study, HeteroData, str, Callable[[], None]], TrialFunction]
"""Makes the objective of a worker from the study, its data, the device, and a sign of life."""


def make_objective(
    config: StudyConfig, study: optuna.Study, data: HeteroData, device: str, sign: Callable[[], None]
) -> TrialFunction:
    """The objective of a study, on its own data."""
    return Objective(config, Workbench(data, device), study.user_attrs.get("reference"), sign)


def tune(
    config: StudyConfig,
    folder: str | Path,
    *,
    workers: int = 1,
    storage: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    make: Make = make_objective,
) -> optuna.Study:
    """Runs a study until its budget is used up, or goes on with it.

    The same call with the same storage joins from another process or machine. Whoever is killed loses the trials that
    he was running; the next one finds them and runs them again.

    Args:
        config: The study.
        folder: Its folder.
        workers: Number of processes.
        storage: See :func:`~mmgraph_robust.tuning.open_storage` (default: in `folder`, SQLite for one worker and a
            journal for more).
        threads: CPU threads of each process (default: torch's own choice, or the cores shared among the workers).
        device: Where to compute.
        make: Makes a worker's objective; for tests and for studies of something else.

    Returns:
        The study.

    Raises:
        ConfigError: If the storage holds another study of that name, or was begun with other data, `folder` cannot be
            written to, or torch cannot compute on `device`.
        CheckpointError: If the storage cannot be opened or fails.
        RuntimeError: If a worker died of a bug; with its traceback.
    """
    if workers < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"'tune' expects workers and threads >= 1 (got {workers} and {threads})")
    check_device(device)
    folder = Path(folder)
    check_out(folder, "folder")
    storage = check_storage(storage or default_storage(folder, workers), workers)
    if workers == 1 and threads is not None:
        torch.set_num_threads(threads)
    with terminable():
        # Before the study takes its name: one whose data cannot be read leaves nothing behind.
        data = config.run.build_data()
        config.check_data(data)
        study = open_study(config, storage)
        _prepare(config, study, data, device)
        _LOG.info("%s: %d workers on %s", config.name, workers, shown(storage))
        if workers == 1:
            reason = _work(config, study, data, folder, device, make, _LOG.info, has_heartbeat(storage))
        else:
            del data
            share = threads or max(1, torch.get_num_threads() // workers)
            reason = _Crew(config, storage, folder, workers, share, device, make).run()
    _LOG.info("%s: done (%s); %s", config.name, reason, best_so_far(study))
    return study


def _prepare(config: StudyConfig, study: optuna.Study, data: HeteroData, device: str) -> None:
    """Does what comes before the first trial, where nobody has done it yet."""
    claim_value(study, "data_hash", data_hash(data), "other data")
    if "provenance" not in study.user_attrs:
        study.set_user_attr("provenance", provenance(data, device))
    if config.needs_reference and "reference" not in study.user_attrs:
        _LOG.info("%s: training the undefended models that trials are compared with", config.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            found = find_reference(config, Workbench(data, device))
        # Another command may have been first in the meantime: what its trials are compared with stays.
        if "reference" not in study.user_attrs:
            study.set_user_attr("reference", found)


def _work(
    config: StudyConfig, study: optuna.Study, data: HeteroData, folder: Path, device: str, make: Make, tell: Tell,
    heartbeat: bool,
) -> str:  # fmt: skip
    worker = Worker(config, study, folder, tell, heartbeat)
    with warnings.catch_warnings():
        # Said once, when the study began, and not again by every trial.
        warnings.simplefilter("ignore", DataWarning)
        return worker.run(make(config, study, data, device, worker.sign))


class _Crew:
    """Worker processes and what becomes of them."""

    def __init__(
        self, config: StudyConfig, storage: str, folder: Path, workers: int, threads: int, device: str, make: Make
    ) -> None:
        # Fresh processes: forking one that has used torch's thread pool can hang.
        self._context = multiprocessing.get_context("spawn")
        self._arguments = (config, storage, folder, threads, device, make)
        self._running: dict[BaseProcess, Connection] = {}
        self._workers = workers
        self._deaths = 0
        self._reason = "the workers were asked to end"

    def run(self) -> str:
        """Runs the workers to their end; whoever is killed is replaced."""
        try:
            for _ in range(self._workers):
                self._start()
            while self._running:
                ready = wait([*(p.sentinel for p in self._running), *self._running.values()])
                for process, pipe in list(self._running.items()):
                    while pipe in ready and self._hear(pipe):
                        pass
                    if process.sentinel in ready:
                        self._bury(process, pipe)
        finally:
            self._stop()
        return self._reason

    def _start(self) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_process, args=(*self._arguments, theirs))
        process.start()
        theirs.close()
        self._running[process] = ours

    def _hear(self, pipe: Connection) -> bool:
        """Takes one message, where there is one."""
        try:
            if not pipe.poll():
                return False
            kind, text = pipe.recv()
        except (EOFError, OSError):
            return False
        if kind == "told":
            self._deaths = 0
            _LOG.info("%s", text)
        elif kind == "done":
            self._reason = text
        elif kind == "refused":
            raise MMGraphError(text)
        else:
            raise RuntimeError(f"a worker died of a bug:\n{text}")
        return True

    def _bury(self, process: BaseProcess, pipe: Connection) -> None:
        while self._hear(pipe):
            pass
        pipe.close()
        process.join()
        del self._running[process]
        code = process.exitcode or 0
        if code == 0:
            return
        self._deaths += 1
        if self._deaths >= _DEATHS:
            raise MMGraphError(
                f"{_DEATHS} workers died one after the other without finishing a trial (the last with code {code}): "
                "is there enough memory? The same command goes on from here"
            )
        _LOG.warning("a worker died (code %d); another takes its place", code)
        self._start()

    def _stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process, pipe in self._running.items():
            process.join(_WAIT_S)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()


def _process(
    config: StudyConfig, storage: str, folder: Path, threads: int, device: str, make: Make, pipe: Connection
) -> None:
    """A worker process: its own connection to the storage, its own copy of the data."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with terminable():
            study = open_study(config, storage)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                data = config.run.build_data()
            claim_value(study, "data_hash", data_hash(data), "other data")
            beat = has_heartbeat(storage)
            reason = _work(config, study, data, folder, device, make, lambda text: pipe.send(("told", text)), beat)
            pipe.send(("done", reason))
    except KeyboardInterrupt:
        return
    except MMGraphError as error:
        pipe.send(("refused", f"{type(error).__name__}: {error}"))
    except BaseException:
        pipe.send(("bug", traceback.format_exc()))
        raise
