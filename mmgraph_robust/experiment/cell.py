"""One cell of a run: one model, one defense, one seed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from mmgraph_robust import defenses, models
from mmgraph_robust.attacks import Attack, Suite, ThreatModel, suite
from mmgraph_robust.defenses import Defense
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.evaluation import find_sensitive, robustness
from mmgraph_robust.experiment.config import Component, RunConfig
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.models import Recommender
from mmgraph_robust.training import History, fit, save_model
from mmgraph_robust.utils import read_json, write_json


@dataclass(frozen=True)
class Cell:
    """A model, a defense and a seed.

    Attributes:
        model: The model.
        defense: The defense.
        seed: Seed of the initial parameters, of training and of the attacks.
    """

    model: Component
    defense: Component
    seed: int

    @property
    def key(self) -> str:
        """Name of the cell's files."""
        return f"{self.model.label}-{self.defense.label}-seed{self.seed}"


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run lie.

    Attributes:
        root: The folder.
    """

    root: Path

    def entry(self, cell: Cell) -> Path:
        """The result entry."""
        return self.root / "entries" / f"{cell.key}.json"

    def model(self, cell: Cell) -> Path:
        """The trained model."""
        return self.root / "models" / f"{cell.key}.safetensors"

    def checkpoint(self, cell: Cell) -> Path:
        """The state of an unfinished training."""
        return self.root / "checkpoints" / f"{cell.key}.pt"

    def suite(self, cell: Cell) -> Path:
        """What an unfinished suite of attacks has done."""
        return self.root / "checkpoints" / f"{cell.key}-suite"


def run_cell(
    config: RunConfig, cell: Cell, folder: RunFolder, data: HeteroData, device: str, progress: bool
) -> dict[str, Any]:
    """Trains (or goes on training), attacks, and writes the model and the result entry."""
    defense = _build_defense(config, cell, folder)
    model, history = _train(config, cell, folder, data, defense, device, progress)
    save_model(model, folder.model(cell), data)
    evaluation = config.evaluation
    outcome = robustness(
        model,
        data,
        _resumable(config.build_attacks(data, cell.seed), folder.suite(cell)),
        k=evaluation.k,
        mask_validation=evaluation.mask_validation,
        seed=cell.seed,
        progress=progress,
    )
    sensitive = None
    if defense is None:
        sensitive = find_sensitive(model, data, metric=evaluation.metric, seed=cell.seed)
    entry = {
        "schema": 1,
        "dataset": config.name,
        "model": cell.model.label,
        "defense": cell.defense.label,
        "seed": cell.seed,
        "config": {
            "model": {"name": cell.model.name, **cell.model.arguments},
            "defense": {"name": "none"} if defense is None else defense.describe(),
            "training": config.training | cell.model.training | cell.defense.training,
            "evaluation": evaluation.model_dump(),
            "data": config.describe()["data"],
        },
        "provenance": provenance(data, device),
        "training": {
            "epochs": history.epochs,
            "best_epoch": history.best_epoch,
            "seconds": history.seconds,
            "best": history.best,
            "monitor": history.monitor,
            "history": history.records,
        },
        **outcome,
        "sensitive": sensitive,
        "feature_path": model.feature_path,
    }
    write_json(folder.entry(cell), entry)
    folder.checkpoint(cell).unlink(missing_ok=True)
    shutil.rmtree(folder.suite(cell), ignore_errors=True)
    return entry


def _resumable(attacks: list[tuple[Attack, ThreatModel]], folder: Path) -> list[tuple[Attack, ThreatModel]]:
    """A suite takes longer than any other attack: it keeps what it has done."""
    return [(suite(a.suite, folder=folder) if isinstance(a, Suite) else a, threat) for a, threat in attacks]


def _train(
    config: RunConfig,
    cell: Cell,
    folder: RunFolder,
    data: HeteroData,
    defense: Defense | None,
    device: str,
    progress: bool,
) -> tuple[Recommender, History]:
    kind = getattr(models, cell.model.name)
    model: Recommender = kind.from_data(data, **cell.model.arguments, seed=cell.seed).to(device)
    arguments = config.training | cell.model.training | cell.defense.training
    history = fit(
        model, data, defense, seed=cell.seed, checkpoint=folder.checkpoint(cell), progress=progress, **arguments
    )
    return model, history


def _build_defense(config: RunConfig, cell: Cell, folder: RunFolder) -> Defense | None:
    if cell.defense.name == "none":
        return None
    arguments = dict(cell.defense.arguments)
    if arguments.get("sensitive") == "auto":
        undefended = Cell(cell.model, config.undefended, cell.seed)
        if not folder.entry(undefended).exists():
            raise ConfigError(f"sensitive = 'auto' looks at {undefended.key}, which failed")
        found = read_json(folder.entry(undefended))["sensitive"]
        if found is None:
            raise ConfigError(
                f"no sensitive modality was found for '{cell.model.label}' (its metric is 0 on the validation split, "
                f"or it reads no features): name one as defenses.{cell.defense.label}.sensitive"
            )
        # What costs quality, rather than what costs margin: a margin may fall far without a rank changing.
        arguments["sensitive"] = found["by_metric"]
    defense: Defense = getattr(defenses, cell.defense.name)(**arguments)
    return defense
