"""What the layers accept as a graph, and as the name of a modality."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from mmgraph_robust.errors import DataError
from mmgraph_robust.sparse import Adjacency

GraphInput: TypeAlias = Any
"""PyG's ``edge_index [2, num_edges]`` of (source, target) pairs or ``EdgeIndex``; or a sparse matrix whose rows are the
targets, as PyG's transposed adjacencies are: :class:`~mmgraph_robust.sparse.Adjacency`, ``torch_sparse.SparseTensor``,
a sparse torch tensor, a SciPy matrix."""


def as_adjacency(edge_index: GraphInput, num_sources: int, num_targets: int) -> Adjacency:
    """The compiled graph of a layer's input.

    Args:
        edge_index: The graph. Compiling takes longer than a product: compile once where it is used more than once.
        num_sources: Number of nodes that send.
        num_targets: Number of nodes that receive.

    Raises:
        DataError: If the graph does not fit these numbers.
    """
    if isinstance(edge_index, Adjacency):
        adjacency = edge_index
    elif isinstance(edge_index, Tensor) and edge_index.layout == torch.strided:
        pairs = edge_index.as_tensor() if hasattr(edge_index, "as_tensor") else edge_index
        return Adjacency.from_edge_index(pairs.flip(0), num_rows=num_targets, num_cols=num_sources)
    else:
        adjacency = Adjacency.from_matrix(edge_index)
    if adjacency.shape != (num_targets, num_sources):
        raise DataError(f"'edge_index' expects {num_targets} targets x {num_sources} sources (got {adjacency})")
    return adjacency


def is_part_name(name: str) -> bool:
    """Whether a modality can be called so where its part of a module is kept under its name, as torch keeps them.

    Args:
        name: The name.
    """
    return bool(name) and "." not in name and not hasattr(torch.nn.ModuleDict(), name)


def is_compiled(edge_index: GraphInput) -> bool:
    """Whether a graph comes compiled, with its edge values final: layers that normalise take it as it is."""
    return isinstance(edge_index, Adjacency)
