"""Sparse products on raw CSR arrays, without autograd: the only file that calls torch's sparse kernels."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from mmgraph_robust.utils.chunk import chunks

# torch says once per process that CSR tensors are in beta; said here, where nobody has to read it.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.long), torch.tensor([]), (1, 1))

_HALF = (torch.float16, torch.bfloat16)
_GATHER_ELEMENTS = 1 << 22


def csr_matmul(rowptr: Tensor, col: Tensor, value: Tensor, num_cols: int, x: Tensor) -> Tensor:
    """``A @ x`` for ``A`` in CSR form.

    Half precision is accumulated in float32, since the CPU kernels know float32 and float64 only.

    Shapes:
        - **rowptr** ``[num_rows + 1]``, **col** and **value** ``[num_edges]``, **x** ``[num_cols, dim]``
        - **output:** ``[num_rows, dim]``, of the type of `x`
    """
    num_rows = rowptr.numel() - 1
    if col.numel() == 0 or x.numel() == 0:
        return x.new_zeros(num_rows, x.size(1))
    if x.dtype in _HALF:
        return csr_matmul(rowptr, col, value.float(), num_cols, x.float()).to(x.dtype)
    matrix = torch.sparse_csr_tensor(rowptr, col, value, (num_rows, num_cols), check_invariants=False)
    result: Tensor = matrix @ x.contiguous()
    return result


def csr_dot(rowptr: Tensor, col: Tensor, row: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``<left[i], right[j]>`` for every stored edge ``(i, j)``.

    Shapes:
        - **left** ``[num_rows, dim]``, **right** ``[num_cols, dim]``
        - **output:** ``[num_edges]``
    """
    num_edges = col.numel()
    if num_edges == 0 or left.size(1) == 0:
        return left.new_zeros(num_edges)
    if left.dtype in _HALF:
        return csr_dot(rowptr, col, row, left.float(), right.float()).to(left.dtype)
    if left.is_cuda or torch.backends.mkl.is_available():
        pattern = torch.sparse_csr_tensor(
            rowptr, col, left.new_zeros(num_edges), (left.size(0), right.size(0)), check_invariants=False
        )
        sampled = torch.sparse.sampled_addmm(pattern, left.contiguous(), right.contiguous().t(), beta=0.0)
        result: Tensor = sampled.values()
        return result
    size = max(1, _GATHER_ELEMENTS // left.size(1))
    parts = [(left[row[a:b]] * right[col[a:b]]).sum(-1) for a, b in chunks(num_edges, size)]
    return torch.cat(parts)
