"""A model and its defense, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.defenses import Defense
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.component import Component
from mmgraph_robust.models import Recommender


def build(
    model: Component, defense: Component, data: HeteroData, seed: int, arguments: Mapping[str, Any] | None = None
) -> tuple[Recommender, Defense | None]:
    """What is trained, and what plugs into its training.

    Args:
        model: The model.
        defense: The defense; what goes around the model is put around it here if it wants to be trained.
        data: The data set.
        seed: Seed of the initial parameters.
        arguments: The defense's arguments (default: those that it has).
    """
    victim: Recommender = model.kind.from_data(data, **model.arguments, seed=seed)
    if defense.around is not None and defense.around.kind.trains:
        victim = _around(victim, defense.around, data, seed)
    if defense.kind is None or defense.wraps:
        return victim, None
    plugged: Defense = defense.kind(**(defense.arguments if arguments is None else arguments))
    return victim, plugged


def finish(model: Recommender, defense: Component, data: HeteroData, seed: int) -> Recommender:
    """What is used: the trained model, with what its defense puts around a trained one.

    Args:
        model: What was trained, from :func:`build`.
        defense: The defense.
        data: The data set.
        seed: The seed.
    """
    around = defense.around
    if around is None or around.kind.trains:
        return model
    return _around(model, around, data, seed).to(model.device)


def _around(model: Recommender, defense: Component, data: HeteroData, seed: int) -> Recommender:
    around: Recommender = defense.kind(model, data, **defense.arguments, seed=seed)
    return around


def check_device(device: str) -> None:
    """Makes sure that torch can compute there.

    Raises:
        ConfigError: If it cannot.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"'device' expects one that torch can use here (got '{device}': {first})") from error
