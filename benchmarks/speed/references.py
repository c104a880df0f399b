"""Other ways to compute the same: PyG's message passing, and LATTICE's equations in dense algebra."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from mmgraph_robust.nn import LatentItemGraph


class WeightedSum(MessagePassing):
    """The sparse product as PyG's layers do it: gather the source of every edge, weigh it, scatter to the target."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, size: tuple[int, int]) -> Tensor:
        """``[num_sources, dim]`` to ``[num_targets, dim]``."""
        result: Tensor = self.propagate(edge_index, x=(x, None), edge_weight=edge_weight, size=size)
        return result

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        """What an edge carries."""
        return edge_weight.view(-1, 1) * x_j


class DotAttention(MessagePassing):
    """Dot-product attention over a target's edges as PyG's attention layers are written."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, query: Tensor, key: Tensor, x: Tensor, edge_index: Tensor, size: tuple[int, int]) -> Tensor:
        """``[num_targets, dim]`` queries, ``[num_sources, dim]`` keys and features to ``[num_targets, dim]``."""
        result: Tensor = self.propagate(edge_index, query=(None, query), key=(key, None), x=(x, None), size=size)
        return result

    def message(self, query_i: Tensor, key_j: Tensor, x_j: Tensor, index: Tensor, size_i: int | None) -> Tensor:
        """What an edge carries."""
        weight = softmax((query_i * key_j).sum(-1), index, num_nodes=size_i)
        return weight.view(-1, 1) * x_j


def dense_neighbours(x: Tensor, k: int) -> Tensor:
    """``[num_nodes, num_nodes]`` cosines of every row's `k` nearest, 0 elsewhere."""
    unit = F.normalize(x, dim=1)
    similarity = unit @ unit.t()
    value, column = torch.topk(similarity, k)
    return torch.zeros_like(similarity).scatter(1, column, value)


def dense_lattice(module: LatentItemGraph, x_dict: Mapping[str, Tensor], original: Mapping[str, Tensor]) -> Tensor:
    r"""LATTICE's item graph ``[num_items, num_items]`` by its equations as they stand (Zhang et al., MM 2021): dense
    similarities, and :math:`D^{-1/2} A D^{-1/2}` as two products with diagonal matrices.

    Args:
        module: Whose projections and weights are used.
        x_dict: The features.
        original: The normalised dense graph of the features as they came.
    """
    share = torch.softmax(module.weight, dim=0)
    pairs = list(zip(share, module.in_channels, strict=True))
    learned = torch.stack([a * dense_neighbours(module.lins[m](x_dict[m]), module.k) for a, m in pairs]).sum(0)
    scale = torch.diag(learned.sum(1).pow(-0.5))
    kept = torch.stack([a * original[m] for a, m in pairs]).sum(0)
    return (1 - module.skip) * (scale @ learned @ scale) + module.skip * kept
