"""How often given items are shown."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError


def exposure(lists: Tensor, items: Tensor) -> Tensor:
    r"""The share of some target items that stands in each list, :math:`|L_u \cap T| / |T|`.

    Its mean over users is the exposure of the targets at the lists' length: what a promotion raises and what hiding
    them lowers.

    Args:
        lists: ``[n, k]`` ranked item ids, -1 for padding.
        items: ``[t]`` different target items.

    Shapes:
        - **output:** ``[n]`` float64

    Raises:
        ConfigError: If there are no targets.
    """
    if items.numel() == 0:
        raise ConfigError("'items' expects at least one target item (got none)")
    return torch.isin(lists, items).double().sum(1) / items.numel()
