"""Splitting interactions."""

from __future__ import annotations

import copy

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import INTERACTS
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import child_generator


def random_split(
    data: HeteroData, *, val: float = 0.1, test: float = 0.1, min_train: int = 1, seed: int = 0
) -> HeteroData:
    r"""Splits each user's interactions at random.

    A user with :math:`n` interactions gives :math:`\lfloor n \cdot test \rceil` to the test and
    :math:`\lfloor n \cdot val \rceil` to the validation split, as long as `min_train` remain for training (test is
    served first).

    Args:
        data: The data set; its masks, if any, are replaced in a shallow copy.
        val: Share of the validation split.
        test: Share of the test split.
        min_train: Training interactions that every user keeps, as far as she has them.
        seed: Seed of the split.

    Raises:
        ConfigError: If the shares are negative or sum to 1 or more.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ConfigError(f"'val' and 'test' expect shares >= 0 that sum to less than 1 (got {val} and {test})")
    if min_train < 0:
        raise ConfigError(f"'min_train' expects a number >= 0 (got {min_train})")
    device = data[INTERACTS].edge_index.device
    user = data[INTERACTS].edge_index[0].cpu()
    shuffled = torch.randperm(user.numel(), generator=child_generator(seed, "split"))
    order = shuffled[user[shuffled].argsort(stable=True)]
    count = torch.bincount(user)
    first = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(user.numel()) - first[user[order]]
    spare = (count - min_train).clamp(min=0)
    num_test = torch.minimum((count * test).round().long(), spare)
    num_val = torch.minimum((count * val).round().long(), spare - num_test)
    in_test = rank < num_test[user]
    in_val = ~in_test & (rank < (num_test + num_val)[user])
    result = copy.copy(data)
    result[INTERACTS].test_mask = in_test.to(device)
    result[INTERACTS].val_mask = in_val.to(device)
    result[INTERACTS].train_mask = (~in_test & ~in_val).to(device)
    return result
