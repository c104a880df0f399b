"""torch's own CSR kernels: MKL on the CPU, cuSPARSE on CUDA."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmgraph_robust.sparse.engines.base import Engine
from mmgraph_robust.sparse.engines.gather import GatherEngine

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency

# torch says once per process that CSR tensors are in beta; said here, where nobody has to read it.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.long), torch.tensor([]), (1, 1))


class TorchCSREngine(Engine):
    """Products by ``torch.sparse_csr_tensor``."""

    name = "torch"
    operations = frozenset({"matmul", "dot"})

    def missing(self, device: torch.device) -> str | None:
        """Without MKL, torch has no edge dots on the CPU."""
        if device.type == "cpu" and not torch.backends.mkl.is_available():
            return "this build of torch has no MKL"
        return None

    def matmul(self, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        """CSR times dense."""
        if adj.num_edges == 0 or x.numel() == 0:
            return x.new_zeros(adj.num_rows, x.size(1))
        # Neither library asks how values lie in memory, and the gradient of a sum has one place for all.
        matrix = torch.sparse_csr_tensor(adj.rowptr, adj.col, value.contiguous(), adj.shape, check_invariants=False)
        # Autocast would hand the product to a kernel that there is none of.
        with torch.autocast(x.device.type, enabled=False):
            result: Tensor = matrix @ x.contiguous()
        return result

    def dot(self, adj: Adjacency, left: Tensor, right: Tensor) -> Tensor:
        """Dense times dense where the pattern has entries."""
        if adj.num_edges == 0 or left.size(1) == 0:
            return left.new_zeros(adj.num_edges)
        if adj.num_edges > adj.num_rows * adj.num_cols:
            # torch refuses more entries than the dense matrix has, which duplicate edges may make.
            return GatherEngine().dot(adj, left, right)
        pattern = torch.sparse_csr_tensor(
            adj.rowptr, adj.col, left.new_zeros(adj.num_edges), adj.shape, check_invariants=False
        )
        # Into the pattern itself, which would be copied otherwise.
        sampled = torch.sparse.sampled_addmm(pattern, left.contiguous(), right.contiguous().t(), beta=0.0, out=pattern)
        result: Tensor = sampled.values()
        return result
