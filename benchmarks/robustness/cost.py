"""``python -m benchmarks.robustness.cost hm``: what a step of an attack and the standard suite cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Annotated, Any, Literal

import torch
import typer
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from benchmarks import options
from benchmarks.costs import device_of
from benchmarks.quality.search import RESULTS as QUALITY
from benchmarks.quality.search import read_data, spaces
from benchmarks.robustness.table import RESULTS
from benchmarks.speed.clock import synchronize
from mmgraph_robust import models
from mmgraph_robust.attacks import PGD, ThreatModel, suite
from mmgraph_robust.data import TripleLoader
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import device_name, read_json, write_json

_STEPS = (20, 60)
_BATCH = 2048
_POLICIES: tuple[Literal["frozen", "rebuilt"], ...] = ("frozen", "rebuilt")


def main(
    name: options.Data = "hm",
    only: options.Backbones = "",
    threads: options.Threads = 2,
    device: options.Device = "cpu",
    repeats: Annotated[int, typer.Option(help="Timed passes.", min=1)] = 5,
    folder: options.Folder = options.DATA,
    out: options.Added = RESULTS / "cost.json",
) -> None:
    """Measures every backbone at its initial parameters, in the setting that the search chose."""
    chosen = options.listed(only) or list(spaces()["models"])
    for model in chosen:
        if model not in spaces()["models"]:
            raise ConfigError(unknown_name("backbone", model, spaces()["models"]))
    result: dict[str, Any] = read_json(out) if out.exists() else {"models": {}}
    check_device(device)
    with options.measuring(threads):
        data = read_data(name, folder)
        about = {
            "dataset": name, "threads": torch.get_num_threads(), "device": device_name(device), "repeats": repeats
        }  # fmt: skip
        known = result | {"device": device_of(result)}
        if result.get("models") and any(known[key] != value for key, value in about.items()):
            raise ConfigError(f"{out} holds what was measured otherwise than {about}: name another file by --out")
        result |= about
        origin = provenance(data, device)
        for model in tqdm(chosen):
            kind: type[Recommender] = getattr(models, model)
            if kind.feature_path == "none":
                continue
            path = QUALITY / name / f"{model}.json"
            arguments = read_json(path)["chosen"]["model"] if path.exists() else {}
            cost = _cost(kind.from_data(data, **arguments, seed=0).to(device), data, repeats)
            result["models"][model] = cost | {"provenance": origin}
            write_json(out, result)


def _cost(model: Recommender, data: HeteroData, repeats: int) -> dict[str, Any]:
    threat = ThreatModel(model.modalities, 0.05)
    # First: whatever a device does once is not the suite's.
    training_step = _median(_training_step(model, data), repeats)
    started = time.perf_counter()
    suite("standard")(model, data, threat)
    return {
        "suite": time.perf_counter() - started,
        "training_step": training_step,
        "attack_step": {
            policy: _attack_step(model, data, replace(threat, graph=policy), repeats) for policy in _POLICIES
        },
    }


def _training_step(model: Recommender, data: HeteroData) -> Callable[[], object]:
    features, compiled = model.features(data), model.graph(data)
    batch = next(TripleLoader(compiled, _BATCH).epoch(torch.Generator().manual_seed(0)))
    model.train()
    graph = model.training_graph(compiled, None, features, 0, torch.Generator().manual_seed(0))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model.loss(model(features, graph), batch, features).backward()
        synchronize(model.device)

    return step


def _attack_step(model: Recommender, data: HeteroData, threat: ThreatModel, repeats: int) -> float:
    """What each step of a longer attack adds, so that setting up and the final judgement count for nothing."""
    few, many = (_median(partial(PGD(steps), model, data, threat), repeats) for steps in _STEPS)
    return (many - few) / (_STEPS[1] - _STEPS[0])


def _median(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    typer.run(main)
