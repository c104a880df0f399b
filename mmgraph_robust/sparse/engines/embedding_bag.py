"""``torch.nn.functional.embedding_bag``, whose CPU kernels (FBGEMM) are compiled for the width that they meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.sparse.engines.base import Engine, Reduction
from mmgraph_robust.sparse.engines.gather import GatherEngine

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency


class EmbeddingBagEngine(Engine):
    """A row of the product is a bag: the weighted sum of the rows of `x` that it names.

    Not the default for float64, for which FBGEMM has no kernel and torch's loop is slower than MKL. On CUDA, torch's
    list of nondeterministic operations names only a backward pass, which is never called here.
    """

    name = "embedding_bag"
    operations = frozenset({"matmul", "segment"})
    dtypes = frozenset({torch.float32})
    deterministic_on_cuda = True

    def matmul(self, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        """A bag of columns for every row, weighted by the values."""
        return _bags(adj.rowptr, adj.col, x, value)

    def segment(self, adj: Adjacency, x: Tensor, reduce: Reduction) -> Tensor:
        """Sums as bags; bags have no fast maximum, so that is taken between row pointers."""
        if reduce == "sum":
            if x.dim() == 1:
                # Numbers as the weights of ones: no index of the edges is made.
                return self.matmul(adj, x, x.new_ones(adj.num_cols, 1)).squeeze(1)
            edge = torch.arange(adj.num_edges, dtype=adj.col.dtype, device=x.device)
            return _bags(adj.rowptr, edge, x)
        if x.dim() > 1:
            # There, segment_reduce is the slower one.
            return GatherEngine().segment(adj, x, reduce)
        rowptr, _ = adj.long_pointers
        result = torch.segment_reduce(x.detach(), "max", offsets=rowptr, axis=0)
        return result.masked_fill_(adj.degree() == 0, 0.0)


def _bags(rowptr: Tensor, index: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    if x.size(1) == 0:
        return x.new_zeros(rowptr.numel() - 1, 0)
    # Detached, since torch prepares for its own backward pass wherever an input requires gradients.
    weight = None if weight is None else weight.detach()
    return F.embedding_bag(
        index, x.detach().contiguous(), rowptr, mode="sum", per_sample_weights=weight, include_last_offset=True
    )
