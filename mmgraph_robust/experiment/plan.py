"""What a run or a suite consists of, and how long it will take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgraph_robust.data.schema import interactions
from mmgraph_robust.errors import ConfigError, DataError, MMGraphError
from mmgraph_robust.experiment.cell import RunFolder, Unit, units
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.estimate import Estimate
from mmgraph_robust.experiment.suite import Suite
from mmgraph_robust.reporting import read_files
from mmgraph_robust.training import data_hash

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run or a suite consists of.

    Attributes:
        name: Its name.
        runs: The run on each data set that could be read, by name.
        units: All units; the first seed of all data sets first, so that what is stopped has compared something.
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
    def files(self) -> set[str]:
        """The names of the files of all cells."""
        return {cell.file for unit in self.units for cell in unit.cells}

    @property
    def metric(self) -> str:
        """The metric of tables and pictures."""
        return next(iter(self.runs.values())).evaluation.metric

    @property
    def waves(self) -> list[list[Unit]]:
        """The units, those first that others look at: a defense may ask what is sensitive in the undefended model."""
        asks = [unit for unit in self.units if unit.defense.arguments.get("sensitive") == "auto"]
        first = [u for u in self.units if u.undefended and any(u.same_model(other) for other in asks)]
        rest = [unit for unit in self.units if unit not in first]
        return [wave for wave in (first, rest) if wave]


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
            each.check_defenses(data)
        except ConfigError as error:
            if not isinstance(config, Suite):
                raise
            raise type(error)(f"on {name}: {error}") from None
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
    if not found:
        raise ConfigError(f"{config.name}: no defense goes with any of the models: there is nothing to run")
    seeds = next(iter(sound.values())).seeds
    found.sort(key=lambda unit: seeds.index(unit.seed))
    return Plan(config.name, sound, found, hashes, sizes, failed)


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
    estimate = Estimate([*known, *own_entries(root).values()], plan.sizes)
    return [(u, len(u.cells), [estimate(u, cell) for cell in root.missing(u)]) for u in plan.units]


def own_entries(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Every sound result entry of a run folder by the name of its file, whatever asked for it."""
    return dict(read_files(folder.entries)) if folder.entries.is_dir() else {}
