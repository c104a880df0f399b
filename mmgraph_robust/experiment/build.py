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
        defense: The defense; one that is a model around the model is put around it here if it wants to be trained.
        data: The data set.
        seed: Seed of the initial parameters.
        arguments: The defense's arguments (default: those that it has).
    """
    plain: Recommender = model.kind.from_data(data, **model.arguments, seed=seed)
    if defense.wraps:
        return (_around(plain, defense, data, seed) if defense.kind.trains else plain), None
    if defense.kind is None:
        return plain, None
    plugged: Defense = defense.kind(**(defense.arguments if arguments is None else arguments))
    return plain, plugged


def finish(model: Recommender, defense: Component, data: HeteroData, seed: int) -> Recommender:
    """What is used: the trained model, with what its defense puts around a trained one.

    Args:
        model: What was trained, from :func:`build`.
        defense: The defense.
        data: The data set.
        seed: The seed.
    """
    late = defense.wraps and not defense.kind.trains
    return _around(model, defense, data, seed).to(model.device) if late else model


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
