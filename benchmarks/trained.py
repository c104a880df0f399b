"""Trainings that are done once and kept, for the benchmarks that search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from mmgraph_robust import fit, save_model
from mmgraph_robust.defenses import Defense
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import claim, read_json, write_json

_PAUSE = 1.0  # seconds


def train_once(
    path: Path, model: Recommender, data: HeteroData, defense: Defense | None, seed: int, **training: Any
) -> dict[str, Any]:
    """How a training went; it is made where its record is not there yet.

    Args:
        path: The trained model's file, ``.safetensors``; its record lies beside.
        model: The model, freshly built.
        data: The data set.
        defense: The defense, if any.
        seed: Seed of the training.
        training: Further arguments of :func:`mmgraph_robust.fit`.
    """
    kept = path.with_suffix(".json")
    # Of the checkpoint, which trainings of several lengths may share.
    with waiting(Path(training.get("checkpoint") or path).with_suffix(".lock")):
        # Whoever asks wants the model: its record alone is not enough.
        if not (kept.exists() and path.exists()):
            history = fit(model, data, defense, seed=seed, **training)
            save_model(model, path, data)
            record = {
                "file": path.name,
                "seed": seed,
                "validation": history.best,
                "monitor": history.monitor,
                "epochs": history.epochs,
                "best_epoch": history.best_epoch,
                "stopped_early": history.stopped_early,
                "seconds": history.seconds,
                "provenance": provenance(data, str(model.device)),
            }
            write_json(kept, record)
    found: dict[str, Any] = read_json(kept)
    return found


@contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Holds a lock file, and waits as long as another process does.

    Args:
        path: The lock file.
    """
    while True:
        with claim(path) as mine:
            if mine:
                yield
                return
        time.sleep(_PAUSE)
