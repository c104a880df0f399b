"""``python -m benchmarks.defenses.cost hm``: what a defended epoch costs, as a multiple of a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import typer
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from benchmarks import options
from benchmarks.costs import device_of
from benchmarks.defenses.search import (
    RESULTS,
    Trainer,
    backbone,
    backbones_for,
    candidates,
    check_backbone,
    defense_class,
    pick,
    plugged,
    read_data,
    spaces,
    wrapped,
)
from mmgraph_robust import fit
from mmgraph_robust.defenses import Defense
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.utils import device_name, read_json, write_json

_EPOCHS = 6
_ROUNDS = 5


def main(
    name: options.Data = "hm",
    only: options.Backbones = "",
    defenses: options.Defenses = "",
    threads: options.Threads = 2,
    device: options.Device = "cpu",
    folder: options.Folder = options.DATA,
    out: options.Added = RESULTS / "cost.json",
) -> None:
    """Times epochs of every defense that acts in training, with the arguments of its first candidate."""
    backbones = options.listed(only) or backbones_for(name)
    for model in backbones:
        check_backbone(name, model)
    check_device(device)
    empty = {"device": device_name(device), "models": {}}
    result: dict[str, Any] = read_json(out) if out.exists() else empty
    if device_of(result) != empty["device"]:
        raise ConfigError(f"{out} holds what was measured on {device_of(result)}: name another file by --out")
    with options.measuring(threads):
        data = read_data(name, folder)
        for model in tqdm(backbones):
            about = {"dataset": name, "threads": torch.get_num_threads()}
            known = result["models"].get(model, about | {"measured": {}})
            if any(known[key] != value for key, value in about.items()):
                raise ConfigError(f"{out} holds {model} as measured otherwise than {about}: name another file by --out")
            seconds = cost(data, model, options.listed(defenses, ";"), device)
            plain, origin = seconds.pop("none"), provenance(data, device)
            for label, value in seconds.items():
                # Each beside the plain epoch of its own hour: machines are not always as fast.
                known["measured"][label] = {"seconds": value, "plain": plain, "provenance": origin}
            result["models"][model] = known
            write_json(out, result)


def cost(data: HeteroData, model: str, labels: Sequence[str] = (), device: str = "cpu") -> dict[str, float]:
    """Median seconds of an epoch by defense, plain ones among them; all in turn, for machines are not always as fast.

    Epochs that validate do not count, nor does the first, which compiles, and in which CKD trains its teachers.

    Raises:
        ConfigError: If one of the labels is none of a defense that acts in training.
    """
    others = {"without", "model", "picked"}
    known = [label for label, entry in spaces()["defenses"].items() if _trains(label) and not entry.keys() & others]
    for label in labels:
        if label not in known:
            raise ConfigError(unknown_name("defense that acts in training", label, known))
    if not labels:
        trainer = Trainer(data, Path())
        labels = [label for label in known if trainer.refusal(model, label) is None]
    labels = ["none", *(label for label in labels if label != "none")]
    seconds: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(_ROUNDS):
        for label in labels:
            seconds[label] += _epochs(data, model, label, device)
    return {label: median(values) for label, values in seconds.items()}


def _trains(label: str) -> bool:
    kind = defense_class(label)
    return kind is None or issubclass(kind, Defense) or kind.trains


def _epochs(data: HeteroData, model: str, label: str, device: str) -> list[float]:
    entry, first = pick("models", model), candidates(label)[0]
    victim = backbone(model).from_data(data, **entry["arguments"], seed=0)
    victim = wrapped(victim, data, label, first, 0).to(device)
    training = spaces()["training"] | entry.get("training", {})
    training |= {"max_epochs": _EPOCHS, "eval_every": _EPOCHS + 1}
    defense = plugged(label, first)
    history = fit(victim, data, defense, seed=0, progress=False, **training)
    return [record["seconds"] for record in history.records[1:-1]]


if __name__ == "__main__":
    typer.run(main)
