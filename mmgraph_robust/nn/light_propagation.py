"""LightGCN's propagation."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.nn.inputs import GraphInput, as_adjacency, is_compiled
from mmgraph_robust.sparse import spmm
from mmgraph_robust.utils import Checked


class LightPropagation(Checked, torch.nn.Module):
    r"""The light propagation of `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ (He et al., SIGIR 2020).

    .. math::
        X^{(l+1)} = D^{-1/2} A D^{-1/2} X^{(l)}, \qquad
        X' = \frac{1}{L + 1} \sum_{l=0}^{L} X^{(l)}

    Args:
        num_layers: Number of hops :math:`L`.

    Shapes:
        - **input:** node features ``[num_nodes, dim]``; the graph as ``edge_index [2, num_edges]`` or a sparse matrix
          (normalised here by the degrees of the targets, as PyG's ``LGConv`` does), or as an
          :class:`~mmgraph_robust.sparse.Adjacency`, which is taken as it is
        - **output:** ``[num_nodes, dim]``
    """

    def __init__(self, num_layers: int = 2) -> None:
        super().__init__()
        self._check_counts(0, num_layers=num_layers)
        self.num_layers = num_layers

    def forward(self, x: Tensor, edge_index: GraphInput) -> Tensor:
        """Propagates `x` over the graph and averages the layers."""
        adjacency = as_adjacency(edge_index, x.size(0), x.size(0))
        if not is_compiled(edge_index):
            adjacency = adjacency.normalize("gcn")
        total = x
        for _ in range(self.num_layers):
            x = spmm(adjacency, x)
            total = total + x
        return total / (self.num_layers + 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_layers={self.num_layers})"
