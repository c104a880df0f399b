"""Gather and scatter in plain torch: runs everywhere, and is the reference for the other engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmgraph_robust.sparse.engines.base import Engine, Reduction
from mmgraph_robust.utils.chunk import chunks

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency

# Elements of the largest temporary: an edges-times-columns tensor is never held whole, and stays in the cache.
_ELEMENTS = 1 << 20


class GatherEngine(Engine):
    """Chunks of edges, ``index_add`` and ``scatter_reduce``. Repeatable on CUDA in torch's deterministic mode."""

    name = "gather"
    operations = frozenset({"matmul", "dot", "segment"})
    deterministic_on_cuda = True

    def matmul(self, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        """Weighted rows of `x`, added up edge by edge."""
        out = x.new_zeros(adj.num_rows, x.size(1))
        for a, b in chunks(adj.num_edges, _ELEMENTS // max(x.size(1), 1)):
            out.index_add_(0, adj.row[a:b], x.index_select(0, adj.col[a:b]).mul_(value[a:b, None]))
        return out

    def dot(self, adj: Adjacency, left: Tensor, right: Tensor) -> Tensor:
        """Both ends of each edge, multiplied and summed."""
        parts = [
            left.index_select(0, adj.row[a:b]).mul_(right.index_select(0, adj.col[a:b])).sum(-1)
            for a, b in chunks(adj.num_edges, _ELEMENTS // max(left.size(1), 1))
        ]
        return torch.cat(parts) if parts else left.new_zeros(0)

    def segment(self, adj: Adjacency, x: Tensor, reduce: Reduction) -> Tensor:
        """``index_add`` or ``scatter_reduce`` by row."""
        zeros = x.new_zeros(adj.num_rows, *x.shape[1:])
        if reduce == "sum":
            return zeros.index_add(0, adj.row, x)
        index = adj.row.long().view(-1, *[1] * (x.dim() - 1)).expand_as(x)
        return zeros.scatter_reduce(0, index, x, "amax", include_self=False)
