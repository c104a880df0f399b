"""FREEDOM's propagation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn.inputs import GraphInput, as_adjacency, is_compiled
from mmgraph_robust.nn.light_propagation import LightPropagation
from mmgraph_robust.sparse import Adjacency, degree_weights, sample_edges


class DenoisedPropagation(torch.nn.Module):
    r"""The denoised user-item propagation of `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_ (Zhou and Shen, MM 2023): while training, light
    propagation over a graph from which edges between popular nodes were dropped first; in evaluation, over all of it.

    An undirected edge stays with a probability that grows with :math:`1 / \sqrt{d_i d_j}`
    (:func:`~mmgraph_robust.sparse.sample_edges`), in both directions or in none, and what stays is normalised anew.

    Args:
        num_layers: Number of hops.
        dropout: Share of the undirected edges that are dropped.
        how: ``"degree"``, or ``"uniform"`` for all edges alike.

    Shapes:
        - **input:** node features ``[num_nodes, dim]``; the undirected graph as ``edge_index [2, num_edges]`` or sparse
          matrix with both directions of every edge, or an :class:`~mmgraph_robust.sparse.Adjacency`, which is taken as
          it is: :meth:`prune` makes one that can be kept for an epoch
        - **output:** ``[num_nodes, dim]``
    """

    def __init__(self, num_layers: int = 2, dropout: float = 0.8, how: Literal["degree", "uniform"] = "degree") -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"'{type(self).__name__}' expects 0 <= dropout < 1 (got {dropout})")
        if how not in ("degree", "uniform"):
            raise ConfigError(f"'{type(self).__name__}' expects how 'degree' or 'uniform' (got '{how}')")
        self.dropout = dropout
        self.how = how
        self.propagation = LightPropagation(num_layers)

    def forward(self, x: Tensor, edge_index: GraphInput, generator: torch.Generator | None = None) -> Tensor:
        """Propagates `x` and averages the layers; drops edges where the module is training."""
        if is_compiled(edge_index):
            return self.propagation(x, edge_index)
        if self.training and self.dropout > 0:
            return self.propagation(x, self.prune(edge_index, x.size(0), generator))
        return self.propagation(x, edge_index)

    def prune(self, edge_index: GraphInput, num_nodes: int, generator: torch.Generator | None = None) -> Adjacency:
        """A graph without the dropped edges, normalised.

        Args:
            edge_index: The graph.
            num_nodes: Number of nodes.
            generator: Where chance comes from; it lives where the graph does.

        Raises:
            DataError: If an edge lacks its other direction.
        """
        full = as_adjacency(edge_index, num_nodes, num_nodes)
        twin = full.t()
        if not (torch.equal(full.rowptr, twin.rowptr) and torch.equal(full.col, twin.col)):
            raise DataError(
                "'edge_index' expects both directions of every edge; torch_geometric's to_undirected adds them"
            )
        once = full.row < full.col
        # Degrees are those of the whole graph.
        how = degree_weights(full)[once] if self.how == "degree" else self.how
        kept = once.nonzero().flatten()[sample_edges(full.select(once), 1 - self.dropout, how, generator=generator)]
        keep = full.row == full.col
        keep[kept] = True
        # In a symmetric pattern an edge of the transpose is the other direction of the edge at the same place.
        keep[full.permutation[kept]] = True
        return full.select(keep).normalize("gcn")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_layers={self.propagation.num_layers}, dropout={self.dropout}, how='{self.how}')"
        )
