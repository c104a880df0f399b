"""A whole run: every cell once, resumable, shared among processes, one report at the end."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data import DataWarning
from mmgraph_robust.data.schema import interactions
from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, MMGraphError
from mmgraph_robust.experiment.cell import RunFolder, Unit, run_unit, units
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.estimate import Countdown, Estimate, duration
from mmgraph_robust.experiment.suite import Suite
from mmgraph_robust.experiment.workers import Workers
from mmgraph_robust.reporting import (
    Table,
    check_entry,
    full,
    leaderboard,
    published_table,
    rank_table,
    read_entries,
    read_files,
    save_figures,
    to_csv,
    to_latex,
    to_markdown,
    write_page,
)
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import claim, keep_freed_memory, read_json, write_json, write_text

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Plan:
    """What a run or a suite consists of.

    Attributes:
        name: Its name.
        runs: The run on each data set that could be read, by name.
        units: All units, those first that others look at.
        hashes: The hash of each data set.
        sizes: Number of training interactions of each data set.
        failed: What could not be read, in words.
    """

    name: str
    runs: dict[str, RunConfig]
    units: list[Unit]
    hashes: dict[str, str]
    sizes: dict[str, int]
    failed: list[str]

    @property
    def keys(self) -> set[str]:
        """The keys of all cells."""
        return {cell.key for unit in self.units for cell in unit.cells}


def make_plan(config: RunConfig | Suite) -> Plan:
    """Reads the data and names every cell.

    Args:
        config: A run, or a suite.

    Raises:
        MMGraphError: If no data set can be read, or something in the configuration does not fit the data.
    """
    runs = config.runs if isinstance(config, Suite) else {config.name: config}
    sound: dict[str, RunConfig] = {}
    hashes: dict[str, str] = {}
    sizes: dict[str, int] = {}
    failed: list[str] = []
    found: list[Unit] = []
    for name, each in runs.items():
        try:
            data = each.build_data()
        except DataError as error:
            if len(runs) == 1:
                raise
            failed.append(f"{name}: {type(error).__name__}: {error}")
            _LOG.error("%s cannot be read: %s", name, error)
            continue
        sound[name], hashes[name], sizes[name] = each, data_hash(data), interactions(data, "train").size(1)
        found += units(each, data)
    if not sound:
        raise MMGraphError("; ".join(failed))
    # Sorted within each seed: a suite that is stopped has compared something.
    found.sort(key=lambda unit: unit.defense.name != "none")
    return Plan(config.name, sound, found, hashes, sizes, failed)


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
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"'run' expects jobs and threads >= 1 (got {jobs} and {threads})")
    root, plan = RunFolder(Path(folder)), make_plan(config)
    _set_aside_damaged(root, plan)
    about = config.about if isinstance(config, Suite) else {}
    _write_plan(root.root, config, plan, about)
    told = _Told(root, plan)
    several = jobs > 1 or cluster is not None
    threads = threads or (max(1, torch.get_num_threads() // jobs) if several else None)
    call = uuid4().hex
    described = {name: json.dumps(each.describe()) for name, each in plan.runs.items()}

    def tasks(chosen: Sequence[Unit]) -> list[_Task]:
        return [
            _Task(call, described[u.dataset], plan.hashes[u.dataset], u.training.key, root.root, device, threads)
            for u in chosen
        ]

    if several:
        with Workers(jobs, cluster) as workers:
            _work(plan.units, lambda chosen: workers(_do, tasks(chosen)), told)
    else:
        _work(plan.units, lambda chosen: (_do(task, progress) for task in tasks(chosen)), told)
    failed = plan.failed + told.failed
    if told.failed and not any(root.entry(unit.training).exists() for unit in plan.units):
        raise MMGraphError("; ".join(failed))
    entries = report(root.root)
    if failed:
        count = f"{told.failed_cells} of {told.total} cells failed, the others are reported: " if told.failed else ""
        raise MMGraphError(count + "; ".join(failed))
    return entries


def report(folder: str | Path) -> list[dict[str, Any]]:
    """Writes tables, pictures and the page of a run folder from its result entries.

    Args:
        folder: The run folder.

    Returns:
        The result entries.
    """
    folder = Path(folder)
    plan = read_json(folder / "plan.json")
    entries = read_entries(folder / "entries", set(plan["keys"])) if (folder / "entries").is_dir() else []
    if not entries:
        raise ConfigError(f"{folder / 'entries'} holds no result entries: run something first")
    metric = plan["metric"]
    published = read_published(folder, entries)
    board, numbers = leaderboard(entries, metric), full(entries, metric)
    tables = [board, rank_table(entries, metric), numbers, *([published] if published else [])]
    write_text(folder / "table.md", "\n\n".join(to_markdown(table) for table in tables) + "\n")
    write_text(folder / "table.tex", "\n".join(to_latex(table) for table in tables[:2]))
    write_text(folder / "table.csv", to_csv(numbers))
    save_figures(entries, folder, metric)
    title = f"Robustness report: {plan['name']}"
    write_page(entries, folder / "report.html", title=title, metric=metric, about=plan["about"])
    return entries


def read_published(folder: str | Path, entries: Sequence[dict[str, Any]]) -> Table | None:
    """Measured results beside the published ones that the configuration of a run folder names, where it does.

    Args:
        folder: The run folder.
        entries: Its result entries.
    """
    published = read_json(Path(folder) / "config.json").get("published")
    return None if published is None else published_table(entries, published)


def dry_run(
    config: RunConfig | Suite, folder: str | Path, known: Sequence[dict[str, Any]] = ()
) -> list[tuple[Unit, int, list[float | None]]]:
    """What a run would do.

    Args:
        config: A run, or a suite.
        folder: Its folder, which need not be there.
        known: Result entries from elsewhere, to tell times from.

    Returns:
        Each unit with its number of cells and, for those that are not done, the expected seconds (None: unknown).
    """
    root, plan = RunFolder(Path(folder)), make_plan(config)
    estimate = Estimate([*known, *_own_entries(root)], plan.sizes)
    return [(u, len(u.cells), [estimate(u, cell) for cell in root.missing(u)]) for u in plan.units]


@dataclass(frozen=True)
class _Task:
    """One unit, in plain values for another process."""

    call: str
    config: str
    data_hash: str
    key: str
    folder: Path
    device: str
    threads: int | None


@dataclass(frozen=True)
class _Outcome:
    """What became of a unit: which cells were done, and how many failed; `busy` where another process works on it."""

    key: str
    label: str
    done: tuple[str, ...] = ()
    text: str = ""
    failed: int = 0
    error: str = ""
    busy: bool = False


class _Told:
    """Says what was done and what is left.

    Args:
        folder: The run folder.
        plan: The plan.
    """

    def __init__(self, folder: RunFolder, plan: Plan) -> None:
        missing = [(unit, cell) for unit in plan.units for cell in folder.missing(unit)]
        entries = _own_entries(folder)
        estimate = Estimate(entries, plan.sizes)
        self.total = sum(len(unit.cells) for unit in plan.units)
        self.failed: list[str] = []
        self.failed_cells = 0
        self._done = self.total - len(missing)
        self._left = Countdown({cell.key: estimate(unit, cell) for unit, cell in missing})
        _LOG.info("%s: %d cells, %d of them done already, into %s", plan.name, self.total, self._done, folder.root)
        _tell_of_others(folder, plan, entries)

    def __call__(self, outcome: _Outcome) -> None:
        self._done += len(outcome.done)
        for key in outcome.done:
            self._left.done(key)
        if outcome.done:
            left = self._left.text()
            text = f"{outcome.text}; {left}" if left else outcome.text
            _LOG.info("[%d/%d] %s: %s", self._done, self.total, outcome.label, text)
        if outcome.failed:
            self.failed.append(f"{outcome.label}: {outcome.error}")
            self.failed_cells += outcome.failed
            _LOG.error("%s failed: %s", outcome.label, outcome.error)


def _work(every: Sequence[Unit], call: Callable[[Sequence[Unit]], Iterator[_Outcome]], told: _Told) -> None:
    """Undefended units first, since others look at them; then again those that another process was busy with."""
    for wave in ([u for u in every if u.defense.name == "none"], [u for u in every if u.defense.name != "none"]):
        chosen, waiting = wave, False
        while chosen:
            busy = []
            for outcome in call(chosen):
                if outcome.busy:
                    busy.append(outcome.key)
                else:
                    told(outcome)
            chosen = [unit for unit in chosen if unit.training.key in busy]
            if chosen and not waiting:
                _LOG.info("another process works on %s: waiting for it", ", ".join(u.label for u in chosen))
                waiting = True
            if chosen:
                time.sleep(_LOOK_AGAIN_S)


def _do(task: _Task, progress: bool = False) -> _Outcome:
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    keep_freed_memory()
    with warnings.catch_warnings():
        # Said once, when the run was planned.
        warnings.simplefilter("ignore", DataWarning)
        config, data, planned = _load(task.call, task.config, task.data_hash)
        return _do_unit(config, data, planned, task, progress)


def _do_unit(config: RunConfig, data: HeteroData, planned: Mapping[str, Unit], task: _Task, progress: bool) -> _Outcome:
    unit, folder = planned[task.key], RunFolder(task.folder)
    undefended = next((u for u in planned.values() if _same_but_undefended(u, unit)), None)
    done: list[str] = []
    began, text, failed, error = time.monotonic(), "", 0, ""
    with claim(folder.lock(unit)) as mine:
        if not mine:
            return _Outcome(task.key, unit.label, busy=True)
        try:
            for cell, entry in run_unit(config, unit, undefended, folder, data, task.device, progress):
                done.append(cell.key)
                text = _in_short(entry, config.evaluation.metric)
        except MMGraphError as caught:
            # What one model cannot do must not cost the results of the others.
            failed, error = len(folder.missing(unit)), f"{type(caught).__name__}: {caught}"
    text = f"{text}, {len(done)} cells in {duration(time.monotonic() - began)}"
    return _Outcome(task.key, unit.label, tuple(done), text, failed, error)


# One call at a time, since files may change between two; several data sets in turn.
@lru_cache(maxsize=2)
def _load(call: str, described: str, expected: str) -> tuple[RunConfig, HeteroData, dict[str, Unit]]:
    config = RunConfig(json.loads(described))
    data = config.build_data()
    if data_hash(data) != expected:
        raise ConfigError(f"the data of '{config.name}' changed while the run went on, or differ on this machine")
    return config, data, {unit.training.key: unit for unit in units(config, data)}


def _same_but_undefended(unit: Unit, other: Unit) -> bool:
    same = (unit.dataset, unit.model.label, unit.seed) == (other.dataset, other.model.label, other.seed)
    return same and unit.defense.name == "none"


def _in_short(entry: Mapping[str, Any], metric: str) -> str:
    training, clean = entry["training"], entry["clean"]["metrics"][metric]
    return f"{metric} {clean:.4f} after {training['epochs']} epochs ({duration(training['seconds'])})"


def _own_entries(folder: RunFolder) -> list[dict[str, Any]]:
    there = folder.root / "entries"
    return [entry for _, entry in read_files(there)] if there.is_dir() else []


def _set_aside_damaged(folder: RunFolder, plan: Plan) -> None:
    """Files under the name of a cell that do not hold it, so that the cell is done anew and nothing is lost."""
    for unit in plan.units:
        for cell in unit.cells:
            path = folder.entry(cell)
            if not path.exists():
                continue
            try:
                entry = read_json(path)
                check_entry(entry)
                if entry.get("key") != cell.key:
                    raise CheckpointError("it holds something else")
            except CheckpointError as error:
                path.rename(path.with_name(path.name + ".damaged"))
                _LOG.warning("%s is kept as %s.damaged and made anew: %s", path.name, path.name, error)


def _tell_of_others(folder: RunFolder, plan: Plan, entries: Sequence[Mapping[str, Any]]) -> None:
    keys = plan.keys
    others = [e for e in entries if e.get("trained") not in keys]
    foreign = {e["dataset"] for e in others if e["provenance"].get("data_hash") != plan.hashes.get(e["dataset"])}
    if others:
        _LOG.warning(
            "%s holds results that this configuration does not ask for (%s%s): they stay there, and out of the report",
            folder.root / "entries",
            ", ".join(sorted({f"{e['dataset']} {e['model']} {e['defense']}" for e in others})),
            f"; those of {', '.join(sorted(foreign))} are of other data" if foreign else "",
        )


def _write_plan(folder: Path, config: RunConfig | Suite, plan: Plan, about: Mapping[str, str]) -> None:
    write_json(folder / "config.json", config.describe())
    metric = next(iter(plan.runs.values())).evaluation.metric
    keys = sorted(plan.keys)
    write_json(folder / "plan.json", {"name": plan.name, "metric": metric, "about": dict(about), "keys": keys})
