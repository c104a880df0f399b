"""One backbone on one data set: candidates on validation, the best one on test with three seeds.

All candidates are trained for a few epochs; the best of each learning rate goes on to the end, since a small rate looks
worse early than it is; the better of these is what is reported. Every backbone gets the same number of candidates and
the same epochs, but for those that spaces.toml gives fewer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from benchmarks import options
from benchmarks.trained import train_once
from mmgraph_robust import evaluate, load_model, models, read_mmrec
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.files import read_values
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import hash_json
from mmgraph_robust.version import TRAINING_VERSION

RESULTS = options.RESULTS / "quality"
SEEDS = (0, 1, 2)

Settings = dict[str, Any]


@cache
def spaces() -> dict[str, Any]:
    """What is searched, trained on and compared with."""
    return read_values(Path(__file__).parent / "spaces.toml")


def candidates(model: str) -> list[Settings]:
    """The settings that a backbone is tried with, each ``{"model": arguments, "training": arguments}``."""
    known = spaces()["models"]
    if model not in known:
        raise ConfigError(unknown_name("model", model, known))
    (own, values), rates = next(iter(known[model].items())), spaces()["candidates"]["learning_rate"]
    return [
        {"model": {own: value}, "training": {"learning_rate": rate}} for rate, value in itertools.product(rates, values)
    ]


def read_data(name: str, folder: Path) -> HeteroData:
    """A data set by the name that it has in the spaces."""
    known = spaces()["data"]
    if name not in known:
        raise ConfigError(unknown_name("data set", name, known))
    return read_mmrec(folder / known[name]["folder"], features=known[name]["features"])


@dataclass(frozen=True)
class Trainer:
    """Trains each (model, settings, seed) once; what was done lies in `work`, and a killed training goes on from there.

    Attributes:
        data: The data set.
        work: A folder for models, checkpoints and records.
        progress: Whether bars are shown.
    """

    data: HeteroData
    work: Path
    progress: bool = True

    def __call__(self, model: str, settings: Settings, seed: int, max_epochs: int) -> dict[str, Any]:
        """Validation value, epochs and seconds of one training; a longer one goes on from a shorter one."""
        training = {**spaces()["training"], **settings["training"], "max_epochs": max_epochs}
        own = {key: value for key, value in training.items() if key != "max_epochs"}
        victim = getattr(models, model).from_data(self.data, **settings["model"], seed=seed)
        key = hash_json([model, victim.config, TRAINING_VERSION, own, seed, data_hash(self.data)])[:16]
        return train_once(
            self.work / f"{model}-{key}-{max_epochs}.safetensors", victim, self.data, None, seed,
            checkpoint=self.work / f"{model}-{key}.pt", checkpoint_every=21, progress=self.progress, **training,
        )  # fmt: skip


def search(name: str, model: str, trainer: Trainer) -> dict[str, Any]:
    """Tries all candidates with seed 0, takes the best on validation, and only then reads the test split."""
    most = spaces()["limits"].get(model, spaces()["training"]["max_epochs"])
    short = spaces()["candidates"]["max_epochs"]
    tried = [{**settings, **trainer(model, settings, SEEDS[0], short)} for settings in candidates(model)]
    rates = {record["training"]["learning_rate"] for record in tried}
    finalists = [
        max((r for r in tried if r["training"]["learning_rate"] == rate), key=lambda r: r["validation"])
        for rate in sorted(rates)
    ]
    last = [
        {"model": f["model"], "training": f["training"], **trainer(model, _settings(f), SEEDS[0], most)}
        for f in finalists
    ]
    chosen = _settings(max(last, key=lambda record: record["validation"]))
    runs = []
    for seed in SEEDS:
        record = trainer(model, chosen, seed, most)
        victim = load_model(trainer.work / record["file"])
        runs.append(record | {"test": evaluate(victim, trainer.data, split="test")})
    return {
        "schema": 1,
        "dataset": name,
        "model": model,
        "training": spaces()["training"],
        "candidates": tried,
        "finalists": last,
        "chosen": chosen,
        "runs": runs,
        "provenance": provenance(trainer.data, "cpu"),
    }


def _settings(record: dict[str, Any]) -> Settings:
    return {"model": record["model"], "training": record["training"]}
