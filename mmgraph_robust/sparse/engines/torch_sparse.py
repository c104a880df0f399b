"""torch-sparse, where it is installed (extra ``extensions``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmgraph_robust.sparse.engines.base import Engine
from mmgraph_robust.typing import WITH_TORCH_SPARSE

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency


class TorchSparseEngine(Engine):
    """Products by the row-parallel kernel behind ``torch_sparse.SparseTensor``."""

    name = "torch_sparse"
    operations = frozenset({"matmul"})

    def missing(self, device: torch.device) -> str | None:
        """The package has to be installed."""
        return None if WITH_TORCH_SPARSE else "torch-sparse is not installed: pip install mmgraph_robust[extensions]"

    def matmul(self, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        """CSR times dense."""
        import torch_sparse  # noqa: F401  registers the operator

        if x.numel() == 0:
            # Its kernel divides by the number of columns, which ends the process.
            return x.new_zeros(adj.num_rows, x.size(1))
        rowptr, col = adj.long_pointers
        # Detached, since it asks for more arrays wherever an input requires gradients.
        value, x = value.detach(), x.detach().contiguous()
        result: Tensor = torch.ops.torch_sparse.spmm_sum(None, rowptr, col, value, None, None, x)
        return result
