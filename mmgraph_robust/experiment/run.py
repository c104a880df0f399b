"""A whole run: every cell once, resumable, one report at the end."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust import models
from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment.cell import Cell, RunFolder, run_cell
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.reporting import (
    Table,
    full,
    headline,
    published_table,
    read_entries,
    save_figures,
    to_csv,
    to_markdown,
    write_page,
)
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import keep_freed_memory, read_json, write_json, write_text

_LOG = logging.getLogger(__name__)


def run(
    config: RunConfig,
    folder: str | Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains and attacks every cell of a configuration and writes the report.

    Cells that are done already are not done again, an interrupted training goes on from its last checkpoint: after a
    kill, the same call ends with the same numbers.

    Args:
        config: What to run.
        folder: The run folder; it gets ``config.json``, ``entries/``, ``models/``, tables, pictures and
            ``report.html``.
        jobs: Number of processes.
        threads: CPU threads of each process (default: torch's own choice, or the cores shared among the jobs).
        device: Where to compute.
        progress: Whether to show progress bars.

    Returns:
        The result entries.

    Raises:
        ConfigError: If the folder belongs to another configuration, or to data that have changed since.
        MMGraphError: If cells failed, once all the others are done and reported; the message names them.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"'run' expects jobs and threads >= 1 (got {jobs} and {threads})")
    root = RunFolder(Path(folder))
    described = _claim(config, root.root)
    groups = list(_groups(config))
    total = sum(len(group) for group in groups)
    done = sum(root.entry(cell).exists() for group in groups for cell in group)
    failed: list[str] = []
    _LOG.info("%s: %d cells, %d of them done already, into %s", config.name, total, done, root.root)
    if jobs == 1:
        if threads is not None:
            torch.set_num_threads(threads)
        for group in groups:
            for outcome in _run_group(described, group, root, device, progress):
                done += _tell(outcome, done, total, failed)
    else:
        share = threads or max(1, torch.get_num_threads() // jobs)
        # Fresh processes: forking one that has used torch's thread pool can hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start_worker, (share,)) as pool:
            futures = [pool.submit(_collect_group, described, group, root, device) for group in groups]
            for future in as_completed(futures):
                for outcome in future.result():
                    done += _tell(outcome, done, total, failed)
    if failed and not done:
        raise MMGraphError("; ".join(failed))
    entries = report(root.root, config.evaluation.metric)
    if failed:
        raise MMGraphError(f"{len(failed)} of {total} cells failed, the others are reported: {'; '.join(failed)}")
    return entries


def report(folder: str | Path, metric: str = "recall@20") -> list[dict[str, Any]]:
    """Writes tables, pictures and the page of a run folder from its result entries.

    Args:
        folder: The run folder.
        metric: The metric of tables and pictures.

    Returns:
        The result entries.
    """
    folder = Path(folder)
    entries = read_entries(folder / "entries")
    if not entries:
        raise ConfigError(f"{folder / 'entries'} holds no result entries: run something first")
    published = read_published(folder)
    tables = [headline(entries, metric), full(entries, metric), *([published] if published else [])]
    write_text(folder / "table.md", "\n\n".join(to_markdown(table) for table in tables) + "\n")
    write_text(folder / "table.csv", to_csv(tables[1]))
    save_figures(entries, folder, metric)
    write_page(entries, folder / "report.html", title=f"Robustness report: {entries[0]['dataset']}", metric=metric)
    return entries


def read_published(folder: str | Path) -> Table | None:
    """The measured results of a run folder beside the published ones that its configuration names, where it does."""
    config = Path(folder) / "config.json"
    published = read_json(config).get("published") if config.exists() else None
    return None if published is None else published_table(read_entries(Path(folder) / "entries"), published)


def _claim(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Writes the configuration into the folder, or makes sure that it is the one that lies there."""
    described = config.describe()
    path = folder / "config.json"
    if path.exists():
        there = read_json(path)
        different = sorted(key for key in {*there, *described} if there.get(key) != described.get(key))
        if different:
            raise ConfigError(
                f"{folder} holds a run of another configuration (different: {', '.join(different)}): "
                "choose another folder, or delete this one"
            )
    write_json(path, described)
    return described


def _groups(config: RunConfig) -> Iterator[list[Cell]]:
    # Cells of one model and seed stay together: a defense may look at the undefended model, which comes first.
    defenses = sorted(config.defenses, key=lambda d: d.name != "none")
    for seed in config.seeds:
        for model in config.models:
            immune = getattr(models, model.name).feature_path == "none"
            yield [Cell(model, d, seed) for d in defenses if d.name == "none" or not immune]


@dataclass(frozen=True)
class _Outcome:
    key: str
    text: str
    failed: bool = False


def _tell(outcome: _Outcome, done: int, total: int, failed: list[str]) -> int:
    if outcome.failed:
        failed.append(f"{outcome.key}: {outcome.text}")
        _LOG.error("%s failed: %s", outcome.key, outcome.text)
        return 0
    _LOG.info("[%d/%d] %s: %s", done + 1, total, outcome.key, outcome.text)
    return 1


def _run_group(
    described: dict[str, Any], group: list[Cell], folder: RunFolder, device: str, progress: bool
) -> Iterator[_Outcome]:
    config = RunConfig(described)
    missing = [cell for cell in group if not folder.entry(cell).exists()]
    if not missing:
        return
    data = config.build_data()
    _check_same_data(folder, data)
    for cell in missing:
        try:
            entry = run_cell(config, cell, folder, data, device, progress)
        except MMGraphError as error:
            # What one model cannot do must not cost the results of the others.
            yield _Outcome(cell.key, f"{type(error).__name__}: {error}", failed=True)
            continue
        metric = config.evaluation.metric
        value, training = entry["clean"]["metrics"][metric], entry["training"]
        yield _Outcome(cell.key, f"{metric} {value:.4f}, {training['epochs']} epochs, {training['seconds']:.0f} s")


def _collect_group(described: dict[str, Any], group: list[Cell], folder: RunFolder, device: str) -> list[_Outcome]:
    return list(_run_group(described, group, folder, device, progress=False))


def _check_same_data(folder: RunFolder, data: HeteroData) -> None:
    for path in sorted((folder.root / "entries").glob("*.json")):
        if read_json(path)["provenance"].get("data_hash") not in (None, data_hash(data)):
            raise ConfigError(
                f"{path} was made from other data than those that are there now: "
                "results must not be mixed; choose another folder, or delete this one"
            )


def _start_worker(threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
