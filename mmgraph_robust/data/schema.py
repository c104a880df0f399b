"""The exchange format: what a data set looks like as HeteroData, and how to read and change it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.errors import ConfigError, DataError, unknown_name
from mmgraph_robust.typing import Features, Split

USER = "user"
ITEM = "item"
INTERACTS = (USER, "interacts", ITEM)
FEATURE_PREFIX = "x_"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def modalities(data: HeteroData) -> list[str]:
    """Names of the modalities of the item features, in stored order."""
    return [key.removeprefix(FEATURE_PREFIX) for key in data[ITEM].keys() if key.startswith(FEATURE_PREFIX)]  # noqa: SIM118


def features(data: HeteroData, names: Sequence[str] | None = None) -> Features:
    """Item features by modality.

    Args:
        data: The data set.
        names: The modalities to return, in this order (default: all).

    Raises:
        ConfigError: If there is no such modality.
    """
    known = modalities(data)
    for name in names or ():
        if name not in known:
            raise ConfigError(unknown_name("modality", name, known))
    return {name: data[ITEM][FEATURE_PREFIX + name] for name in (known if names is None else names)}


def with_features(data: HeteroData, changed: Features) -> HeteroData:
    """A shallow copy of `data` with other item features; `data` itself stays as it is and shares all the rest.

    Args:
        data: The data set.
        changed: New features of modalities that `data` has, of the same shape.

    Raises:
        ConfigError: If there is no such modality.
        DataError: If a shape differs.
    """
    result = copy.copy(data)
    for name, x in changed.items():
        old = features(data, [name])[name]
        if x.shape != old.shape:
            raise DataError(f"modality '{name}' expects shape {list(old.shape)} (got {list(x.shape)})")
        result[ITEM][FEATURE_PREFIX + name] = x
    return result


def interactions(data: HeteroData, split: Split) -> Tensor:
    """``[2, num_edges]`` (user, item) pairs of one split.

    Raises:
        ConfigError: If there is no such split.
        DataError: If `data` is not split.
    """
    store = data[INTERACTS]
    if split not in SPLITS:
        raise ConfigError(unknown_name("split", split, SPLITS))
    if f"{split}_mask" not in store:
        raise DataError(f"the interactions lack '{split}_mask': split them with 'random_split'")
    pairs: Tensor = store.edge_index[:, store[f"{split}_mask"]]
    return pairs


def build(
    edge_index: Tensor,
    label: Tensor,
    features: Features,
    *,
    num_users: int | None = None,
    num_items: int | None = None,
    name: str | None = None,
) -> HeteroData:
    """Puts a data set together.

    Args:
        edge_index: ``[2, num_edges]`` (user, item) pairs.
        label: ``[num_edges]`` 0, 1 or 2 for training, validation and test.
        features: ``[num_items, dim]`` per modality.
        num_users: Number of users (default: the largest id + 1).
        num_items: Number of items (default: the largest id + 1).
        name: Name of the data set.

    Raises:
        DataError: If ids are no whole numbers.
    """
    if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
        raise DataError(f"'edge_index' expects whole numbers (got {edge_index.dtype})")
    data = HeteroData()
    if name is not None:
        data.name = name
    highest = edge_index.amax(1).tolist() if edge_index.numel() else [-1, -1]
    data[USER].num_nodes = highest[0] + 1 if num_users is None else num_users
    data[ITEM].num_nodes = highest[1] + 1 if num_items is None else num_items
    data[INTERACTS].edge_index = edge_index.long()
    for index, split in enumerate(SPLITS):
        data[INTERACTS][f"{split}_mask"] = label == index
    for modality, x in features.items():
        data[ITEM][FEATURE_PREFIX + modality] = x.to(torch.float32)
    return data
