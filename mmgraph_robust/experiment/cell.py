"""The cells of a run: each training, and each attack on a trained model, is one file named by what made it."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Attack, Suite, ThreatModel, suite
from mmgraph_robust.data.schema import ITEM, USER, interactions
from mmgraph_robust.errors import CheckpointError, ConfigError, MMGraphError
from mmgraph_robust.evaluation import RobustnessEvaluator, find_sensitive, modality_shares
from mmgraph_robust.experiment.build import build, finish
from mmgraph_robust.experiment.config import Component, RunConfig
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Recommender
from mmgraph_robust.reporting import check_entry
from mmgraph_robust.reporting.entries import SCHEMA
from mmgraph_robust.reporting.settings import labelled_attacks
from mmgraph_robust.training import data_hash, fit, load_model, save_model
from mmgraph_robust.utils import hash_json, hash_tensors, peak_memory, read_json, reset_peak_memory, write_json
from mmgraph_robust.version import __version__


@dataclass(frozen=True)
class Cell:
    """What one file of results holds.

    Attributes:
        key: Hash of everything that decides its numbers.
        name: Name of its file.
        kind: Name of the attack, or ``"training"`` with the defense.
        attack: Place among the attacks of the run; None for the training.
    """

    key: str
    name: str
    kind: str
    attack: int | None = None


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
    def entries(self) -> Path:
        """The folder of the result entries."""
        return self.root / "entries"

    def entry(self, cell: Cell) -> Path:
        """The result entry."""
        return self.entries / f"{cell.name}.json"

    def model(self, unit: Unit) -> Path:
        """The trained model."""
        return self.root / "models" / f"{unit.weights}.safetensors"

    def record(self, unit: Unit) -> Path:
        """How the model was trained."""
        return self.root / "models" / f"{unit.weights}.json"

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
    shared = [__version__, data_hash(data)]
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
                    made_of.append([undefended, evaluation["metric"]])
                weights = hash_json(made_of)
                if defense.name == "none" and undefended is None:
                    undefended = weights
                stem = f"{config.name}-{model.label}-{defense.label}-seed{seed}"
                key = hash_json([weights, evaluation])
                cells = []
                for place, (name, text) in enumerate(zip(names, described, strict=True)):
                    own = hash_json([key, text])
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


def run_unit(
    config: RunConfig,
    unit: Unit,
    undefended: Unit | None,
    folder: RunFolder,
    data: HeteroData,
    device: str,
    progress: bool,
) -> Iterator[tuple[Cell, dict[str, Any] | MMGraphError]]:
    """Does the cells of a unit that are not done, one after the other, and writes each.

    Args:
        config: The run.
        unit: The unit.
        undefended: That of the same model and seed without a defense, where the run has one.
        folder: Where everything lies.
        data: The data set.
        device: Where to compute.
        progress: Whether to show progress bars.

    Yields:
        Each cell with its result entry, or with what hindered an attack.

    Raises:
        MMGraphError: If the model cannot be trained, or is not the one that the entries tell of.
    """
    missing = folder.missing(unit)
    if not missing:
        return
    reset_peak_memory()
    if not (folder.model(unit).exists() and folder.record(unit).exists()):
        _train(config, unit, undefended, folder, data, device, progress)
    training = read_json(folder.record(unit))
    model = load_model(folder.model(unit)).to(device)
    if hash_tensors(**model.state_dict()) != training["weights"]:
        raise CheckpointError(f"{folder.model(unit)} is not the model that the .json beside it tells of: delete both")
    evaluation = config.evaluation
    evaluator = RobustnessEvaluator(
        model,
        data,
        k=evaluation.k,
        mask_validation=evaluation.mask_validation,
        per_user=[evaluation.metric],
        seed=unit.seed,
    )
    if unit.training in missing:
        entry = {
            "schema": SCHEMA,
            "key": unit.training.key,
            "trained": unit.training.key,
            "dataset": config.name,
            "model": unit.model.label,
            "defense": unit.defense.label,
            "seed": unit.seed,
            "config": training.pop("config") | {"evaluation": evaluation.model_dump()},
            "provenance": training.pop("provenance"),
            "size": {
                "users": int(data[USER].num_nodes),
                "items": int(data[ITEM].num_nodes),
                "train_interactions": interactions(data, "train").size(1),
            },
            "training": training,
            "clean": evaluator.clean,
            "attacks": [],
            "sensitive": _sensitive(model, data, unit, evaluation.metric),
            "carries": modality_shares(model, data, k=cutoff_of(evaluation.metric)),
            "feature_path": model.feature_path,
            "memory_mb": peak_memory(),
        }
        write_json(folder.entry(unit.training), entry)
        yield unit.training, entry
    base = read_json(folder.entry(unit.training))
    if base["training"]["weights"] != training["weights"]:
        raise CheckpointError(
            f"the model was trained anew and is another than the one that {folder.entry(unit.training)} tells of "
            "(by another machine or version?): delete that file and the attacks beside it, or take another folder"
        )
    attacks = config.build_attacks(data, unit.seed)
    for cell in unit.attacks:
        if cell not in missing or cell.attack is None:
            continue
        reset_peak_memory()
        attack, threat = attacks[cell.attack]
        # A suite takes longer than any other attack: it keeps what it has done.
        resumable = suite(attack.suite, folder=folder.suite(unit)) if isinstance(attack, Suite) else attack
        try:
            found = evaluator(resumable, threat, progress)
        except MMGraphError as error:
            # The other attacks may do.
            yield cell, error
            continue
        entry = base | {
            "key": cell.key,
            "provenance": provenance(data, device),
            "training": base["training"] | {"history": []},
            "attacks": [found | {"place": cell.attack}],
            "memory_mb": peak_memory(),
        }
        write_json(folder.entry(cell), entry)
        yield cell, entry
    shutil.rmtree(folder.suite(unit), ignore_errors=True)


def set_aside_damaged(unit: Unit, folder: RunFolder) -> list[str]:
    """Renames files that do not hold what their name says, so that it is done anew and nothing is lost.

    Args:
        unit: The unit, to be locked by the caller.
        folder: Where everything lies.

    Returns:
        What was done, in words.
    """
    told = []
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
            told.append(_set_aside(path, error))
    if folder.missing(unit) and folder.model(unit).exists():
        try:
            load_model(folder.model(unit))
            read_json(folder.record(unit))
        except CheckpointError as error:
            told.append(_set_aside(folder.model(unit), error))
            folder.record(unit).unlink(missing_ok=True)
    return told


def _set_aside(path: Path, error: CheckpointError) -> str:
    number, free = 1, path.with_name(f"{path.name}.damaged")
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(free)
    return f"{path.name} is kept as {free.name} and made anew: {error}"


def _train(
    config: RunConfig,
    unit: Unit,
    undefended: Unit | None,
    folder: RunFolder,
    data: HeteroData,
    device: str,
    progress: bool,
) -> None:
    """Trains, or goes on training; writes the model, and how it was made."""
    model, defense = build(unit.model, unit.defense, data, unit.seed, _arguments(unit, undefended, folder))
    settings = config.training | unit.model.training | unit.defense.training
    checkpoint = folder.checkpoint(unit)
    model = model.to(device)
    history = fit(model, data, defense, seed=unit.seed, checkpoint=checkpoint, progress=progress, **settings)
    model = finish(model, unit.defense, data, unit.seed)
    plugged = {"name": unit.defense.name, **unit.defense.arguments} if defense is None else defense.describe()
    save_model(model, folder.model(unit), data)
    record = {
        "epochs": history.epochs,
        "best_epoch": history.best_epoch,
        "seconds": history.seconds,
        "best": history.best,
        "monitor": history.monitor,
        "weights": hash_tensors(**model.state_dict()),
        "history": history.records,
        "config": {
            "model": {"name": unit.model.name, **unit.model.arguments},
            "defense": plugged,
            "training": settings,
            "data": config.describe()["data"],
        },
        "provenance": provenance(data, device),
    }
    write_json(folder.record(unit), record)
    checkpoint.unlink(missing_ok=True)


def _sensitive(model: Recommender, data: HeteroData, unit: Unit, metric: str) -> dict[str, Any] | None:
    return find_sensitive(model, data, metric=metric, seed=unit.seed) if unit.undefended else None


def _arguments(unit: Unit, undefended: Unit | None, folder: RunFolder) -> dict[str, Any]:
    """The defense's arguments, the sensitive modality among them where it was to be found."""
    arguments = dict(unit.defense.arguments)
    if arguments.get("sensitive") == "auto":
        # That one is part of the run was checked with the configuration.
        if undefended is None or not folder.entry(undefended.training).exists():
            raise ConfigError("sensitive = 'auto' looks at the undefended model, which failed")
        found = read_json(folder.entry(undefended.training))["sensitive"]
        if found is None:
            raise ConfigError(
                f"no sensitive modality was found for '{unit.model.label}' (its metric is 0 on the validation split, "
                f"or it reads no features): name one as defenses.{unit.defense.label}.sensitive"
            )
        # What costs quality, rather than what costs margin: a margin may fall far without a rank changing.
        arguments["sensitive"] = found["by_metric"]
    return arguments


def _made_of(component: Component) -> list[Any]:
    return [component.name, component.arguments, None if component.kind is None else _source(component.kind)]


def _source(kind: type) -> str:
    """The hash of the file that a class of another package stands in; nothing for our own, which the version tells."""
    if kind.__module__.startswith("mmgraph_robust."):
        return ""
    file = inspect.getsourcefile(kind)
    return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _attack_names(attacks: list[tuple[Attack, ThreatModel]]) -> list[str]:
    """For people: what is attacked, how and how far, in characters that every file system takes."""
    plain = [{"attack": type(attack).__name__, **threat.describe()} for attack, threat in attacks]
    return [
        f"{setting.attack.partition(' ')[0]}-{'+'.join(setting.modalities)}-{100 * setting.budget:g}"
        for setting, _ in labelled_attacks(plain)
    ]
