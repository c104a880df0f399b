"""A whole run: every cell once, resumable, one report at the end."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from mmgraph_robust import models
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.cell import Cell, RunFolder, run_cell
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.reporting import full, headline, read_entries, save_figures, to_csv, to_markdown, write_page
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
        ConfigError: If the folder belongs to another configuration.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"'run' expects jobs and threads >= 1 (got {jobs} and {threads})")
    root = RunFolder(Path(folder))
    described = _claim(config, root.root)
    groups = list(_groups(config))
    total = sum(len(group) for group in groups)
    done = sum(root.entry(cell).exists() for group in groups for cell in group)
    _LOG.info("%s: %d cells, %d of them done already, into %s", config.name, total, done, root.root)
    if jobs == 1:
        if threads is not None:
            torch.set_num_threads(threads)
        for group in groups:
            for line in _run_group(described, group, root, device, progress):
                done += 1
                _LOG.info("[%d/%d] %s", done, total, line)
    else:
        share = threads or max(1, torch.get_num_threads() // jobs)
        # Fresh processes: forking one that has used torch's thread pool can hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start_worker, (share,)) as pool:
            futures = [pool.submit(_collect_group, described, group, root, device) for group in groups]
            for future in as_completed(futures):
                for line in future.result():
                    done += 1
                    _LOG.info("[%d/%d] %s", done, total, line)
    return report(root.root, config.evaluation.metric)


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
    tables = [headline(entries, metric), full(entries, metric)]
    write_text(folder / "table.md", "\n\n".join(to_markdown(table) for table in tables) + "\n")
    write_text(folder / "table.csv", to_csv(tables[1]))
    save_figures(entries, folder, metric)
    write_page(entries, folder / "report.html", title=f"Robustness report: {entries[0]['dataset']}", metric=metric)
    return entries


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


def _run_group(
    described: dict[str, Any], group: list[Cell], folder: RunFolder, device: str, progress: bool
) -> Iterator[str]:
    config = RunConfig(described)
    missing = [cell for cell in group if not folder.entry(cell).exists()]
    data = config.build_data() if missing else None
    for cell in missing:
        entry = run_cell(config, cell, folder, data, device, progress)
        metric = config.evaluation.metric
        value, training = entry["clean"]["metrics"][metric], entry["training"]
        yield f"{cell.key}: {metric} {value:.4f}, {training['epochs']} epochs, {training['seconds']:.0f} s"


def _collect_group(described: dict[str, Any], group: list[Cell], folder: RunFolder, device: str) -> list[str]:
    return list(_run_group(described, group, folder, device, progress=False))


def _start_worker(threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
