"""One place that says, in words, what is wrong with a data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.item_graphs import stored_item_graphs
from mmgraph_robust.data.schema import INTERACTS, ITEM, SPLITS, USER, features
from mmgraph_robust.errors import ConfigError, DataError, unknown_name
from mmgraph_robust.typing import Split


class DataWarning(UserWarning):
    """Something unusual in a data set that can be worked with."""


def validate(data: HeteroData, *, splits: Sequence[Split] = ("train",)) -> HeteroData:
    """Checks a data set; PyG's own ``data.validate()`` lets NaN rows and wrong row counts pass.

    Args:
        data: The data set.
        splits: The splits that must not be empty, besides the training split, which never may be.

    Returns:
        The same `data`.

    Raises:
        ConfigError: If there is no such split.
        DataError: If something is wrong; says where and what to do.

    Warns:
        DataWarning: Of users and items without training interactions, empty feature rows, and constant columns.
    """
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(unknown_name("split", split, SPLITS))
    num_users, num_items = _check_nodes(data)
    edge_index = _check_edges(data, num_users, num_items)
    _check_splits(data, edge_index, num_items, splits)
    for name, x in features(data).items():
        check_features(name, x, num_items)
        _warn_features(name, x)
    stored_item_graphs(data)
    _warn_isolated(edge_index[:, data[INTERACTS].train_mask], num_users, num_items)
    return data


def check_features(name: str, x: Tensor, num_items: int, source: str | None = None) -> None:
    """Checks one feature matrix.

    Args:
        name: The modality.
        x: Its features.
        num_items: The number of rows that it must have.
        source: The file that it came from, to be named in errors.
    """
    where = f"modality '{name}'" + (f" ({source})" if source else "")
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"{where} expects a float32 tensor (got {kind}): call .float()")
    if x.dim() != 2 or x.size(1) == 0:
        raise DataError(f"{where} expects shape [{num_items}, dim] with dim >= 1 (got {list(x.shape)})")
    if x.size(0) != num_items:
        which = "fewer" if x.size(0) < num_items else "more"
        raise DataError(
            f"{where} has {x.size(0)} rows, {which} than the {num_items} items: give one row per item, in item order"
        )
    finite = torch.isfinite(x).all(dim=1)
    if not bool(finite.all()):
        rows = (~finite).nonzero().flatten()
        raise DataError(
            f"{where} has NaN or infinite values in {rows.numel()} rows, first {rows[:5].tolist()}: "
            "fill or remove these items"
        )


def _check_nodes(data: HeteroData) -> tuple[int, int]:
    counts = []
    for kind in (USER, ITEM):
        count = data[kind].get("num_nodes") if kind in data.node_types else None
        if count is None:
            raise DataError(f"the data set lacks data['{kind}'].num_nodes: set it to the number of {kind}s")
        if int(count) < 1:
            raise DataError(f"data['{kind}'].num_nodes expects at least 1 (got {count})")
        counts.append(int(count))
    if counts[0] * counts[1] > torch.iinfo(torch.int64).max:
        raise DataError(f"{counts[0]} users times {counts[1]} items are more pairs than int64 can number")
    return counts[0], counts[1]


def _check_edges(data: HeteroData, num_users: int, num_items: int) -> Tensor:
    if INTERACTS not in data.edge_types or "edge_index" not in data[INTERACTS]:
        raise DataError(f"the data set lacks interactions: set data[{INTERACTS}].edge_index to (user, item) pairs")
    edge_index: Tensor = data[INTERACTS].edge_index
    if not isinstance(edge_index, Tensor):
        raise DataError(f"'edge_index' expects an int64 tensor (got {type(edge_index).__name__})")
    if edge_index.dtype != torch.long or edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise DataError(
            f"'edge_index' expects int64 of shape [2, num_edges] (got {edge_index.dtype} of {list(edge_index.shape)})"
        )
    for row, (kind, count) in enumerate(((USER, num_users), (ITEM, num_items))):
        wrong = ((edge_index[row] < 0) | (edge_index[row] >= count)).nonzero().flatten()
        if wrong.numel():
            place = int(wrong[0])
            raise DataError(
                f"{kind} id {int(edge_index[row, place])} in interaction {place} is out of range: "
                f"ids must run from 0 to {count - 1} ({wrong.numel()} such interactions)"
            )
    return edge_index


def _check_splits(data: HeteroData, edge_index: Tensor, num_items: int, splits: Sequence[Split]) -> None:
    masks = []
    for split in SPLITS:
        mask = data[INTERACTS].get(f"{split}_mask")
        if mask is None:
            raise DataError(f"the interactions lack '{split}_mask': split them with 'random_split'")
        if not isinstance(mask, Tensor):
            raise DataError(f"'{split}_mask' expects a tensor of booleans (got {type(mask).__name__})")
        if mask.dtype != torch.bool or mask.shape != (edge_index.size(1),):
            raise DataError(
                f"'{split}_mask' expects booleans of shape [{edge_index.size(1)}] "
                f"(got {mask.dtype} of {list(mask.shape)})"
            )
        masks.append(mask)
    member = torch.stack(masks).sum(0)
    for wrong, what in ((member > 1, "in more than one split"), (member == 0, "in no split")):
        if bool(wrong.any()):
            places = wrong.nonzero().flatten()
            raise DataError(
                f"{places.numel()} interactions are {what}, first at positions {places[:5].tolist()}: the masks must "
                "put each interaction into exactly one split"
            )
    keys = edge_index[0] * num_items + edge_index[1]
    order = keys.argsort(stable=True)
    label = torch.stack(masks).int().argmax(0)
    same = keys[order][1:] == keys[order][:-1]
    if bool(same.any()):
        first, second = order[:-1][same], order[1:][same]
        across = int((label[first] != label[second]).sum())
        user, item = edge_index[:, int(first[0])].tolist()
        parts = [SPLITS[int(label[place])] for place in (first[0], second[0])]
        what = f"twice in '{parts[0]}'" if parts[0] == parts[1] else f"in both '{parts[0]}' and '{parts[1]}'"
        raise DataError(
            f"{first.numel()} user-item pairs occur more than once, {across} of them in two splits; e.g. user {user} "
            f"and item {item} at positions {int(first[0])} and {int(second[0])} ({what}): remove duplicates first"
        )
    for split, mask in zip(SPLITS, masks, strict=True):
        if split in ("train", *splits) and not bool(mask.any()):
            raise DataError(f"the {split} split is empty: make one with 'random_split'")


def _warn_features(name: str, x: Tensor) -> None:
    num_items, dim = x.shape
    empty = int((x == 0).all(dim=1).sum())
    if empty:
        _warn(f"modality '{name}' is zero in all columns for {empty} of {num_items} items")
    constant = int((x == x[0]).all(dim=0).sum()) if num_items > 1 else 0
    if constant:
        _warn(f"modality '{name}' is constant in {constant} of {dim} columns")


def _warn_isolated(train: Tensor, num_users: int, num_items: int) -> None:
    for row, (kind, count) in enumerate(((USER, num_users), (ITEM, num_items))):
        missing = count - int(torch.unique(train[row]).numel())
        if missing:
            _warn(f"{missing} of {count} {kind}s have no training interaction")


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=4)
