"""Differentiable operators on an :class:`Adjacency`: products, edge dots, softmax over a row's edges."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import DataError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.kernels import csr_dot, csr_matmul


class _SpMM(torch.autograd.Function):
    # The backward passes are built from the two differentiable functions themselves, so second derivatives
    # (penalties on gradients) come for free.
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(value, x)
        return csr_matmul(adj.rowptr, adj.col, value, adj.num_cols, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        adj: Adjacency = ctx.adj
        value, x = ctx.saved_tensors
        grad_value = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_value = _SDDMM.apply(adj, grad, x).to(value.dtype)
        if ctx.needs_input_grad[2]:
            grad_x = _SpMM.apply(adj.t(), value[adj.permutation], grad)
        return None, grad_value, grad_x


class _SDDMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, left: Tensor, right: Tensor) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(left, right)
        return csr_dot(adj.rowptr, adj.col, adj.row, left, right)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        adj: Adjacency = ctx.adj
        left, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[1]:
            grad_left = _SpMM.apply(adj, grad, right)
        if ctx.needs_input_grad[2]:
            grad_right = _SpMM.apply(adj.t(), grad[adj.permutation], left)
        return None, grad_left, grad_right


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, logits: Tensor) -> Tensor:
        high = _segment(adj, logits, "max")
        weight = (logits - high[adj.row]).exp()
        weight = weight / _segment(adj, weight, "sum")[adj.row]
        ctx.adj = adj
        ctx.save_for_backward(weight)
        return weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        adj: Adjacency = ctx.adj
        (weight,) = ctx.saved_tensors
        product = weight * grad
        return None, product - weight * _segment(adj, product, "sum")[adj.row]


def spmm(adj: Adjacency, x: Tensor, value: Tensor | None = None) -> Tensor:
    r"""The product :math:`A X`, with gradients to `x` and to the edge values.

    Args:
        adj: The matrix.
        x: ``[num_cols, dim]`` floating point features.
        value: ``[num_edges]`` edge values to use in place of those of `adj`, in the order of its edges.

    Shapes:
        - **output:** ``[num_rows, dim]``

    Raises:
        DataError: If `x` has another number of rows, another device, or is not floating point.
    """
    _check_dense("x", x, adj.num_cols, adj)
    if value is None:
        value = adj.values()
    else:
        _check_edges("value", value, adj)
    if x.dtype not in (torch.float16, torch.bfloat16):
        value = value.to(x.dtype)
    result: Tensor = _SpMM.apply(adj, value, x)
    return result


def sddmm(adj: Adjacency, left: Tensor, right: Tensor) -> Tensor:
    r"""The dot product :math:`\langle l_i, r_j \rangle` on every edge :math:`(i, j)`; edge values play no part.

    Args:
        adj: The structure.
        left: ``[num_rows, dim]``
        right: ``[num_cols, dim]``

    Shapes:
        - **output:** ``[num_edges]``, in the order of the edges of `adj`
    """
    _check_dense("left", left, adj.num_rows, adj)
    _check_dense("right", right, adj.num_cols, adj)
    if left.size(1) != right.size(1) or left.dtype != right.dtype:
        raise DataError(
            f"'left' and 'right' expect the same width and type "
            f"(got {left.size(1)} of {left.dtype} and {right.size(1)} of {right.dtype})"
        )
    result: Tensor = _SDDMM.apply(adj, left, right)
    return result


def edge_softmax(adj: Adjacency, logits: Tensor) -> Tensor:
    r"""Softmax over the edges of each row, :math:`\exp(e_{ij}) / \sum_{k \in N(i)} \exp(e_{ik})`, without overflow.

    Args:
        adj: The structure.
        logits: ``[num_edges]``, in the order of the edges of `adj`.

    Shapes:
        - **output:** ``[num_edges]``
    """
    _check_edges("logits", logits, adj)
    result: Tensor = _EdgeSoftmax.apply(adj, logits)
    return result


def segment_reduce(adj: Adjacency, x: Tensor, reduce: Literal["sum", "mean", "max"] = "sum") -> Tensor:
    """Reduces the edges of each row to one number; rows without edges give 0.

    Args:
        adj: The structure.
        x: ``[num_edges]``, in the order of the edges of `adj`.
        reduce: Which reduction.

    Shapes:
        - **output:** ``[num_rows]``
    """
    _check_edges("x", x, adj)
    if reduce == "mean":
        return segment_reduce(adj, x, "sum") / adj.degree().clamp(min=1).to(x.dtype)
    return _segment(adj, x, reduce)


def _segment(adj: Adjacency, x: Tensor, reduce: str) -> Tensor:
    zeros = x.new_zeros(adj.num_rows)
    if reduce == "sum":
        return zeros.index_add(0, adj.row, x)
    return zeros.scatter_reduce(0, adj.row.long(), x, "amax", include_self=False)


def _check_dense(name: str, x: Tensor, rows: int, adj: Adjacency) -> None:
    if x.dim() != 2 or x.size(0) != rows:
        raise DataError(f"'{name}' expects shape [{rows}, dim] for {adj} (got {list(x.shape)})")
    if not x.is_floating_point():
        raise DataError(f"'{name}' expects floating point numbers (got {x.dtype}): call .float()")
    if x.device != adj.device:
        raise DataError(f"'{name}' is on {x.device} but the matrix is on {adj.device}: move one of them")


def _check_edges(name: str, x: Tensor, adj: Adjacency) -> None:
    if x.dim() != 1 or x.numel() != adj.num_edges:
        raise DataError(f"'{name}' expects shape [{adj.num_edges}], one per edge of {adj} (got {list(x.shape)})")
    if not x.is_floating_point():
        raise DataError(f"'{name}' expects floating point numbers (got {x.dtype}): call .float()")
