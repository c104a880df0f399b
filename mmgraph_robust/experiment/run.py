"""A whole run: every cell once, resumable, shared among processes, one report at the end."""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch_geometric.data import HeteroData
from tqdm import tqdm

from mmgraph_robust.data import DataWarning
from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.experiment.cell import RunFolder, Unit, units
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.estimate import Countdown, Estimate, duration
from mmgraph_robust.experiment.plan import Plan, make_plan, own_entries
from mmgraph_robust.experiment.report import ReportPlan, report
from mmgraph_robust.experiment.suite import Suite
from mmgraph_robust.experiment.unit import UnitRunner
from mmgraph_robust.experiment.workers import Workers
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import check_out, claim, keep_freed_memory, read_json, terminable, write_json

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0


def run(
    config: RunConfig | Suite,
    folder: str | Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    cluster: str | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains and attacks every cell of a run or of a suite and writes the report.

    Each training and each attack is one file, named by what made it. What is done is not done again, an interrupted
    training goes on from its last checkpoint, and processes started beside each other share the work: after a kill,
    the same call ends with the same numbers. A changed configuration only adds what is missing; results that it no
    longer asks for stay in the folder and out of the report.

    Args:
        config: What to run.
        folder: The run folder; it gets ``config.json``, ``plan.json``, ``entries/``, ``models/``, tables, pictures and
            ``report.html``.
        jobs: Number of processes.
        threads: CPU threads of each process (default: torch's own choice, or the cores shared among the jobs).
        device: Where to compute.
        cluster: See :class:`~mmgraph_robust.experiment.workers.Workers`.
        progress: Whether to show progress bars.

    Returns:
        The result entries.

    Raises:
        MMGraphError: If cells failed, once all the others are done and reported; the message names them.
        Terminated: If the process is asked to end (SIGTERM) while others work for it.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"'run' expects jobs and threads >= 1 (got {jobs} and {threads})")
    for place in RunFolder(Path(folder)).folders:
        check_out(place, "folder")
    if cluster is None:
        check_device(device)
    # Workers stand elsewhere.
    root, plan = RunFolder(Path(folder).resolve()), make_plan(config)
    if not all(root.model(unit).exists() for unit in plan.units):
        check_out(root.models, "folder")
    shown = _begin(root.root, config, plan)
    told = _Told(root, plan)
    if jobs > 1 and cluster is None and threads is None:
        threads = max(1, torch.get_num_threads() // jobs)
    call = uuid4().hex
    described = {name: json.dumps(_absolute(each.describe(), cluster)) for name, each in plan.runs.items()}

    def tasks(chosen: Sequence[Unit]) -> list[_Task]:
        return [
            _Task(call, described[u.dataset], plan.hashes[u.dataset], u.training.name, root.root, device, threads)
            for u in chosen
        ]

    if jobs > 1 or cluster is not None:
        # Whoever ends this process alone, as a batch system does, ends its workers, too.
        with terminable(), Workers(jobs, cluster) as workers:
            _work(plan, lambda chosen: workers(_do_elsewhere, tasks(chosen)), told)
    else:
        _work(plan, lambda chosen: map(partial(_do, progress=progress), tasks(chosen)), told)
    failed = plan.failed + told.failed
    if told.failed and not any(root.entry(unit.training).exists() for unit in plan.units):
        raise MMGraphError("; ".join(failed))
    entries = report(root.root, shown)
    page = Path(folder) / "report.html"
    left = sum(len(root.missing(unit)) for unit in plan.units)
    if left:
        raise MMGraphError(f"{left} of {told.total} cells failed, the others are in {page}: {'; '.join(failed)}")
    if failed:
        raise MMGraphError(f"{'; '.join(failed)}; the others are in {page}")
    return entries


@dataclass(frozen=True)
class _Task:
    """One unit, in plain values for another process."""

    call: str
    config: str
    data_hash: str
    unit: str
    folder: Path
    device: str
    threads: int | None


@dataclass(frozen=True)
class _Outcome:
    """What became of a unit: which cells are done, what hindered others; `busy` where another process works on it."""

    unit: str
    label: str
    done: tuple[str, ...] = ()
    text: str = ""
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    busy: bool = False


class _Told:
    """Says what was done and what is left.

    Args:
        folder: The run folder.
        plan: The plan.
    """

    def __init__(self, folder: RunFolder, plan: Plan) -> None:
        entries = own_entries(folder)
        estimate = Estimate(list(entries.values()), plan.sizes)
        missing = {cell.name: estimate(unit, cell) for unit in plan.units for cell in folder.missing(unit)}
        self.total = sum(len(unit.cells) for unit in plan.units)
        self.failed: list[str] = []
        self._left = Countdown(missing)
        done = self.total - len(missing)
        _LOG.info("%s: %d cells, %d of them done already, into %s", plan.name, self.total, done, folder.root)
        _tell_of_others(folder, plan, entries)

    def __call__(self, outcome: _Outcome) -> None:
        for note in outcome.notes:
            _LOG.warning("%s", note)
        for name in outcome.done:
            self._left.done(name)
        if outcome.text:
            left = self._left.text()
            text = f"{outcome.text}; {left}" if left else outcome.text
            _LOG.info("[%d/%d] %s: %s", self.total - self._left.count, self.total, outcome.label, text)
        for error in outcome.failed:
            self.failed.append(error)
            _LOG.error("failed: %s", error)


def _work(plan: Plan, call: Callable[[Sequence[Unit]], Iterator[_Outcome]], told: _Told) -> None:
    """Each wave once, and again those units that another process was busy with."""
    for wave in plan.waves:
        chosen, waiting = wave, False
        while chosen:
            busy = []
            for outcome in call(chosen):
                if outcome.busy:
                    busy.append(outcome.unit)
                else:
                    told(outcome)
            chosen = [unit for unit in chosen if unit.training.name in busy]
            if chosen and not waiting:
                _LOG.info("another process works on %s: waiting for it", ", ".join(u.label for u in chosen))
                waiting = True
            if chosen:
                time.sleep(_LOOK_AGAIN_S)


def _do_elsewhere(task: _Task) -> _Outcome:
    keep_freed_memory()
    # It shows no bar. The lock that bars share among processes would be left behind where this one is ended.
    tqdm.set_lock(threading.RLock())
    return _do(task, progress=False)


def _do(task: _Task, progress: bool) -> _Outcome:
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    with warnings.catch_warnings():
        # Said once, when the run was planned.
        warnings.simplefilter("ignore", DataWarning)
        try:
            config, data, planned = _load(task.call, task.config, task.data_hash)
        except MMGraphError as error:
            # Of one data set: the others may do.
            return _Outcome(task.unit, task.unit, failed=(f"{task.unit}: {_in_words(error)}",))
        if task.unit not in planned:
            raise ConfigError(
                f"'{task.unit}' is not known here: this worker has another version of the library, or of a package "
                "that registers a class"
            )
        unit, folder = planned[task.unit], RunFolder(task.folder)
        with claim(folder.lock(unit)) as mine:
            if not mine:
                return _Outcome(task.unit, unit.label, busy=True)
            undefended = next((u for u in planned.values() if u.undefended and u.same_model(unit)), None)
            return _do_unit(UnitRunner(config, unit, undefended, folder, data, task.device, progress))


def _do_unit(runner: UnitRunner) -> _Outcome:
    unit, metric = runner.unit, runner.config.evaluation.metric
    notes, failed, text, count = runner.set_aside_damaged(), [], "", 0
    began = time.monotonic()
    try:
        for cell, found in runner():
            if isinstance(found, Exception):
                failed.append(f"{cell.name}: {_in_words(found)}")
                continue
            count += 1
            text = _in_short(found, metric)
    except Exception as error:
        # Of torch, for want of memory, or of a package's own class: it must not cost the results of the others.
        failed.append(f"{unit.label}: {_in_words(error)}")
    done = tuple(cell.name for cell in unit.cells if runner.folder.entry(cell).exists())
    if text:
        text = f"{text}, {count} cells in {duration(time.monotonic() - began)}"
    return _Outcome(unit.training.name, unit.label, done, text, tuple(notes), tuple(failed))


# One call at a time, since files may change between two; several data sets in turn.
@lru_cache(maxsize=2)
def _load(call: str, described: str, expected: str) -> tuple[RunConfig, HeteroData, dict[str, Unit]]:
    config = RunConfig(json.loads(described))
    data = config.build_data()
    if data_hash(data) != expected:
        raise ConfigError(f"the data of '{config.name}' changed while the run went on, or differ on this machine")
    return config, data, {unit.training.name: unit for unit in units(config, data)}


def _in_words(error: Exception) -> str:
    """What broke, and the place of what is none of our own errors."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MMGraphError):
        return text
    _LOG.debug("%s", "".join(traceback.format_exception(error)))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({Path(place.filename).name}:{place.lineno})"


def _in_short(entry: Mapping[str, Any], metric: str) -> str:
    training, clean = entry["training"], entry["clean"]["metrics"][metric]
    return f"{metric} {clean:.4f} after {training['epochs']} epochs ({duration(training['seconds'])})"


def _tell_of_others(folder: RunFolder, plan: Plan, entries: Mapping[str, Mapping[str, Any]]) -> None:
    files = plan.files
    others = [entry for name, entry in entries.items() if name not in files]
    if not others:
        return
    foreign = {
        e["dataset"] for e in others
        if e["dataset"] in plan.hashes and e["provenance"].get("data_hash") != plan.hashes[e["dataset"]]
    }  # fmt: skip
    _LOG.warning(
        "%s holds %d results that are not asked for (of %s%s): they stay there, and out of the report",
        folder.entries,
        len(others),
        ", ".join(sorted({f"{e['dataset']} {e['model']} {e['defense']}" for e in others})),
        f"; those of {', '.join(sorted(foreign))} are of other data" if foreign else "",
    )


def _begin(folder: Path, config: RunConfig | Suite, plan: Plan) -> ReportPlan:
    """Writes what the folder is made for, and says where that was something else."""
    described = config.describe()
    path = folder / "config.json"
    if path.exists() and (there := read_json(path)) != described:
        different = sorted(key for key in {*there, *described} if there.get(key) != described.get(key))
        _LOG.warning("%s was made for another configuration (different: %s)", folder, ", ".join(different))
    write_json(path, described)
    about = config.about if isinstance(config, Suite) else {}
    shown = ReportPlan(plan.name, plan.metric, about, plan.files, described.get("published"))
    shown.write(folder)
    return shown


def _absolute(described: dict[str, Any], cluster: str | None) -> dict[str, Any]:
    """For workers that stand in another folder: where the data lie, from the root."""
    if cluster is None or "folder" not in described["data"]:
        return described
    described = copy.deepcopy(described)
    described["data"]["folder"] = str(Path(described["data"]["folder"]).resolve())
    return described
