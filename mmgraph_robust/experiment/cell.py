"""The cells of a run: each training, and each attack on a trained model, is one file named by what made it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Attack, ThreatModel
from mmgraph_robust.experiment.component import Component
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.reporting.settings import labelled_attacks
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import hash_json
from mmgraph_robust.version import ATTACK_VERSION, TRAINING_VERSION


@dataclass(frozen=True)
class Cell:
    """What one file of results holds.

    Attributes:
        key: Hash of everything that decides its numbers.
        name: What it is called: what it is of, and the key's beginning.
        kind: Name of the attack, or ``"training"`` with the defense.
        place: Place among the attacks of the run; -1 for the training.
    """

    key: str
    name: str
    kind: str
    place: int = -1

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.json"


@dataclass(frozen=True)
class Unit:
    """A model, a defense and a seed on one data set: its training, and the attacks on what was trained.

    Attributes:
        dataset: Name of the data set.
        model: The model.
        defense: The defense.
        seed: Seed of the initial parameters, of training and of the attacks.
        weights: Name of the trained model's files: what decides the weights, whatever it is called and evaluated by.
        training: The cell of the training.
        attacks: The cells of the attacks.
    """

    dataset: str
    model: Component
    defense: Component
    seed: int
    weights: str
    training: Cell
    attacks: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """What it is called in messages and file names."""
        return f"{self.dataset}-{self.model.label}-{self.defense.label}-seed{self.seed}"

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The training and the attacks."""
        return (self.training, *self.attacks)

    @property
    def undefended(self) -> bool:
        """Whether there is no defense."""
        return self.defense.name == "none"

    def same_model(self, other: Unit) -> bool:
        """Whether both are of one model, data set and seed."""
        return (self.dataset, self.model.label, self.seed) == (other.dataset, other.model.label, other.seed)


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run lie.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that every run writes to."""
        return self.root, self.entries, self.root / "checkpoints"

    @property
    def models(self) -> Path:
        """The folder of the trained models."""
        return self.root / "models"

    @property
    def entries(self) -> Path:
        """The folder of the result entries."""
        return self.root / "entries"

    def entry(self, cell: Cell) -> Path:
        """The result entry."""
        return self.entries / cell.file

    def model(self, unit: Unit) -> Path:
        """The trained model."""
        return self.models / f"{unit.weights}.safetensors"

    def record(self, unit: Unit) -> Path:
        """How the model was trained."""
        return self.models / f"{unit.weights}.json"

    def checkpoint(self, unit: Unit) -> Path:
        """The state of an unfinished training."""
        return self.root / "checkpoints" / f"{unit.weights}.pt"

    def suite(self, unit: Unit) -> Path:
        """What an unfinished suite of attacks has done."""
        return self.root / "checkpoints" / f"{unit.weights}-suite"

    def lock(self, unit: Unit) -> Path:
        """Taken by the process that works on it."""
        return self.root / "checkpoints" / f"{unit.weights}.lock"

    def missing(self, unit: Unit) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell in unit.cells if not self.entry(cell).exists()]


def units(config: RunConfig, data: HeteroData) -> Iterator[Unit]:
    """Every model, defense and seed of a run. The undefended ones of a model come first: a defense may look at them.

    Args:
        config: The run.
        data: Its data set.
    """
    shared = [TRAINING_VERSION, data_hash(data)]
    evaluation = config.evaluation.model_dump()
    for seed in config.seeds:
        # Which items are targets may depend on the seed.
        attacks = config.build_attacks(data, seed)
        described = [[a.describe(), threat.describe(), _source(type(a))] for a, threat in attacks]
        names = _attack_names(attacks)
        for model in config.models:
            undefended = None
            for defense in sorted(config.defenses, key=lambda d: d.name != "none"):
                if not defense.fits(model):
                    continue
                settings = config.training | model.training | defense.training
                made_of = [*shared, seed, settings, _made_of(model), _made_of(defense)]
                if defense.arguments.get("sensitive") == "auto":
                    # An attack on the undefended model finds it.
                    made_of.append([undefended, evaluation["metric"], ATTACK_VERSION])
                weights = hash_json(made_of)
                if defense.name == "none" and undefended is None:
                    undefended = weights
                stem = f"{config.name}-{model.label}-{defense.label}-seed{seed}"
                # What is sensitive in an undefended model is a part of its training's entry.
                attacked = [ATTACK_VERSION] if defense.name == "none" and model.kind.feature_path != "none" else []
                key = hash_json([weights, evaluation, *attacked])
                cells = []
                for place, (name, text) in enumerate(zip(names, described, strict=True)):
                    own = hash_json([key, text, ATTACK_VERSION])
                    cells.append(Cell(own, f"{stem}-{name}-{own[:12]}", type(attacks[place][0]).__name__, place))
                yield Unit(
                    config.name,
                    model,
                    defense,
                    seed,
                    f"{model.name}-{weights[:16]}",
                    Cell(key, f"{stem}-{key[:12]}", f"training {defense.label}"),
                    tuple(cells),
                )


def _made_of(component: Component) -> list[Any]:
    own = [component.name, component.arguments, None if component.kind is None else _source(component.kind)]
    return own if component.wrapper is None else [*own, _made_of(component.wrapper)]


def _source(kind: type) -> str:
    """The hash of the file that a class of another package stands in; nothing for our own, which the versions tell."""
    if kind.__module__.startswith("mmgraph_robust."):
        return ""
    file = inspect.getsourcefile(kind)
    return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _attack_names(attacks: list[tuple[Attack, ThreatModel]]) -> list[str]:
    """For people: what is attacked, how and how far, in characters that every file system takes."""
    plain = [{"attack": type(attack).__name__, **threat.describe()} for attack, threat in attacks]
    return [
        f"{setting.attack.partition(' ')[0]}-{'+'.join(setting.modalities)}-"
        + (f"{100 * setting.budget:g}" if setting.relative else f"{setting.budget:g}-absolute")
        for setting, _ in labelled_attacks(plain)
    ]
