"""What the layers accept as a graph."""

from __future__ import annotations

from torch import Tensor

from mmgraph_robust.sparse import Adjacency


def as_adjacency(edge_index: Tensor | Adjacency, num_sources: int, num_targets: int) -> Adjacency:
    """The compiled graph of a layer's input.

    Args:
        edge_index: An :class:`~mmgraph_robust.sparse.Adjacency` whose rows are the targets of messages, or PyG's
            ``[2, num_edges]`` pairs of (source, target). Compiling takes longer than a product: compile once where
            the graph is used more than once.
        num_sources: Number of nodes that send.
        num_targets: Number of nodes that receive.
    """
    if isinstance(edge_index, Adjacency):
        return edge_index
    return Adjacency.from_edge_index(edge_index.flip(0), num_rows=num_targets, num_cols=num_sources)
