"""One unit of a run: trains a model and attacks it, file by file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Suite, suite
from mmgraph_robust.data.schema import ITEM, USER, interactions
from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.evaluation import RobustnessEvaluator, find_sensitive, modality_shares
from mmgraph_robust.experiment.build import build, finish
from mmgraph_robust.experiment.cell import Cell, RunFolder, Unit
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Recommender
from mmgraph_robust.reporting import check_entry
from mmgraph_robust.reporting.entries import SCHEMA
from mmgraph_robust.training import fit, load_model, save_model
from mmgraph_robust.utils import hash_tensors, peak_memory, read_json, reset_peak_memory, write_json


@dataclass(frozen=True)
class UnitRunner:
    """Does the cells of one unit.

    Attributes:
        config: The run.
        unit: The unit, locked by the caller.
        undefended: That of the same model and seed without a defense, where the run has one.
        folder: Where everything lies.
        data: The data set.
        device: Where to compute.
        progress: Whether to show progress bars.
    """

    config: RunConfig
    unit: Unit
    undefended: Unit | None
    folder: RunFolder
    data: HeteroData
    device: str
    progress: bool

    def __call__(self) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
        """Does the cells that are not done, one after the other, and writes each.

        Yields:
            Each cell with its result entry, or with what hindered an attack.

        Raises:
            MMGraphError: If the model cannot be trained, or is not the one that the entries tell of.
        """
        unit, folder = self.unit, self.folder
        self._renew_places()
        missing = folder.missing(unit)
        if not missing:
            return
        reset_peak_memory()
        model, training = self._trained()
        evaluation = self.config.evaluation
        evaluator = RobustnessEvaluator(
            model,
            self.data,
            k=evaluation.k,
            mask_validation=evaluation.mask_validation,
            per_user=[evaluation.metric],
            seed=unit.seed,
        )
        if unit.training in missing:
            entry = self._training_entry(model, training, evaluator)
            write_json(folder.entry(unit.training), entry)
            yield unit.training, entry
        base = read_json(folder.entry(unit.training))
        if base["training"]["weights"] != training["weights"]:
            raise CheckpointError(
                f"the model was trained anew and is another than the one that {folder.entry(unit.training)} tells of "
                "(by another machine or version?): delete that file and the attacks beside it, or take another folder"
            )
        for cell in unit.attacks:
            path = folder.entry(cell)
            if cell not in missing and read_json(path)["training"]["weights"] != training["weights"]:
                raise CheckpointError(
                    f"{path} tells of an attack on another model than the one that is here now: delete it, or take "
                    "another folder"
                )
        yield from self._attacks([cell for cell in unit.attacks if cell in missing], evaluator, base)
        shutil.rmtree(folder.suite(unit), ignore_errors=True)

    def set_aside_damaged(self) -> list[str]:
        """Renames files that do not hold what their name says, so that it is done anew and nothing is lost.

        Returns:
            What was done, in words.
        """
        told = []
        for cell in self.unit.cells:
            path = self.folder.entry(cell)
            if not path.exists():
                continue
            try:
                entry = read_json(path)
                check_entry(entry)
                if entry.get("key") != cell.key:
                    raise CheckpointError("it holds something else")
            except CheckpointError as error:
                told.append(_set_aside(path, error))
        model, record = self.folder.model(self.unit), self.folder.record(self.unit)
        if self.folder.missing(self.unit) and model.exists():
            try:
                load_model(model)
                read_json(record)
            except CheckpointError as error:
                told.append(_set_aside(model, error))
                record.unlink(missing_ok=True)
        return told

    def _renew_places(self) -> None:
        """Puts done attacks where the run has them now: reports number targets in that order, in every seed alike."""
        for cell in self.unit.attacks:
            path = self.folder.entry(cell)
            entry = read_json(path) if path.exists() else None
            if entry is not None and entry["attacks"][0].get("place") != cell.place:
                write_json(path, entry | {"attacks": [entry["attacks"][0] | {"place": cell.place}]})

    def _trained(self) -> tuple[Recommender, dict[str, Any]]:
        """The model, and how it was trained."""
        path, record = self.folder.model(self.unit), self.folder.record(self.unit)
        if not (path.exists() and record.exists()):
            self._train()
        training = read_json(record)
        model = load_model(path).to(self.device)
        if hash_tensors(**model.state_dict()) != training["weights"]:
            raise CheckpointError(f"{path} is not the model that the .json beside it tells of: delete both")
        return model, training

    def _train(self) -> None:
        """Trains, or goes on training; writes the model, and how it was made."""
        unit, folder, data = self.unit, self.folder, self.data
        model, defense = build(unit.model, unit.defense, data, unit.seed, self._arguments())
        settings = self.config.training | unit.model.training | unit.defense.training
        checkpoint = folder.checkpoint(unit)
        model = model.to(self.device)
        history = fit(model, data, defense, seed=unit.seed, checkpoint=checkpoint, progress=self.progress, **settings)
        model = finish(model, unit.defense, data, unit.seed)
        plugged = {"name": unit.defense.name, **unit.defense.arguments} if defense is None else defense.describe()
        if unit.defense.wrapper is not None:
            plugged["wrapper"] = {"name": unit.defense.wrapper.name, **unit.defense.wrapper.arguments}
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
                "data": self.config.describe()["data"],
            },
            "provenance": provenance(data, self.device),
        }
        write_json(folder.record(unit), record)
        checkpoint.unlink(missing_ok=True)

    def _training_entry(
        self, model: Recommender, training: dict[str, Any], evaluator: RobustnessEvaluator
    ) -> dict[str, Any]:
        unit, data, metric = self.unit, self.data, self.config.evaluation.metric
        sensitive = find_sensitive(model, data, metric=metric, seed=unit.seed) if unit.undefended else None
        return {
            "schema": SCHEMA,
            "key": unit.training.key,
            "trained": unit.training.key,
            "dataset": unit.dataset,
            "model": unit.model.label,
            "defense": unit.defense.label,
            "seed": unit.seed,
            "config": training["config"] | {"evaluation": self.config.evaluation.model_dump()},
            "provenance": training["provenance"],
            "size": {
                "users": int(data[USER].num_nodes),
                "items": int(data[ITEM].num_nodes),
                "train_interactions": interactions(data, "train").size(1),
            },
            "training": {name: value for name, value in training.items() if name not in ("config", "provenance")},
            "clean": evaluator.clean,
            "attacks": [],
            "sensitive": sensitive,
            "carries": modality_shares(model, data, k=cutoff_of(metric)),
            "feature_path": model.feature_path,
            "memory_mb": peak_memory(),
        }

    def _attacks(
        self, cells: list[Cell], evaluator: RobustnessEvaluator, base: dict[str, Any]
    ) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
        attacks = dict(enumerate(self.config.build_attacks(self.data, self.unit.seed)))
        for cell in cells:
            attack, threat = attacks[cell.place]
            reset_peak_memory()
            # A suite takes longer than any other attack: it keeps what it has done.
            unfinished = self.folder.suite(self.unit)
            resumable = suite(attack.suite, folder=unfinished) if isinstance(attack, Suite) else attack
            try:
                found = evaluator(resumable, threat, self.progress)
            except Exception as error:
                # The other attacks may do, even where torch or a package's own class broke this one.
                yield cell, error
                continue
            entry = base | {
                "key": cell.key,
                "provenance": provenance(self.data, self.device),
                "training": base["training"] | {"history": []},
                "attacks": [found | {"place": cell.place}],
                "memory_mb": peak_memory(),
            }
            write_json(self.folder.entry(cell), entry)
            yield cell, entry

    def _arguments(self) -> dict[str, Any]:
        """The defense's arguments, the sensitive modality among them where it was to be found."""
        arguments = dict(self.unit.defense.arguments)
        if arguments.get("sensitive") == "auto":
            # That one is part of the run was checked with the configuration.
            if self.undefended is None or not self.folder.entry(self.undefended.training).exists():
                raise ConfigError("sensitive = 'auto' looks at the undefended model, which failed")
            found = read_json(self.folder.entry(self.undefended.training))["sensitive"]
            if found is None:
                raise ConfigError(
                    f"no sensitive modality was found for '{self.unit.model.label}' (its metric is 0 on the validation "
                    "split, the attack took nothing, or it reads no features): name one as "
                    f"defenses.{self.unit.defense.label}.sensitive"
                )
            # What costs quality, rather than what costs margin: a margin may fall far without a rank changing.
            arguments["sensitive"] = found["by_metric"]
        return arguments


def _set_aside(path: Path, error: CheckpointError) -> str:
    number, free = 1, path.with_name(f"{path.name}.damaged")
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(free)
    return f"{path.name} is kept as {free.name} and made anew: {error}"
