"""Differentiable operators on an :class:`Adjacency`: products, edge dots, reductions and softmax over a row's edges.

Every operator takes ``engine``, the name of the engine that computes it and its gradients (see
:mod:`mmgraph_robust.sparse.engines`); :obj:`None` takes the environment's or the fastest measured one (on CUDA, where
the order was not measured, the first). torch.func's transforms know none of the operators.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.sparse.engines import Reduction, choose_engine


def _wide(x: Tensor) -> torch.dtype:
    """What engines compute `x` in: sums of many halves would lose digits."""
    return torch.promote_types(x.dtype, torch.float32)


def _matmul(adj: Adjacency, value: Tensor, x: Tensor, name: str | None) -> Tensor:
    wide = _wide(x)
    engine = choose_engine("matmul", x.device, name, dtype=wide)
    return engine.matmul(adj, value.to(wide), x.to(wide)).to(x.dtype)


def _dot(adj: Adjacency, left: Tensor, right: Tensor, name: str | None) -> Tensor:
    wide = _wide(left)
    engine = choose_engine("dot", left.device, name, dtype=wide)
    return engine.dot(adj, left.to(wide), right.to(wide)).to(left.dtype)


def _segment(adj: Adjacency, x: Tensor, reduce: Reduction, name: str | None) -> Tensor:
    wide = _wide(x)
    engine = choose_engine("segment", x.device, name, dtype=wide)
    return engine.segment(adj, x.to(wide), reduce).to(x.dtype)


def _spread(adj: Adjacency, x: Tensor) -> Tensor:
    """What every row has, to each of its edges; faster than ``x[adj.row]``."""
    return x.index_select(0, adj.row)


# Backward passes are built from the differentiable functions themselves, so second derivatives (penalties on
# gradients) come for free.


class _SpMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, value: Tensor, x: Tensor, engine: str | None) -> Tensor:
        ctx.adj, ctx.engine = adj, engine
        # Constant values of the matrix are there in the transpose's order already.
        ctx.own = value is adj.value and not value.requires_grad
        ctx.save_for_backward(value, x)
        return _matmul(adj, value, x, engine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        adj: Adjacency = ctx.adj
        value, x = ctx.saved_tensors
        grad_value = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_value = _SDDMM.apply(adj, grad, x, ctx.engine).to(value.dtype)
        if ctx.needs_input_grad[2]:
            # Only constant values are worth keeping beside the transpose.
            twin = adj.t() if ctx.own else Adjacency(adj.structure.t())
            transposed = twin.value if ctx.own else value.index_select(0, adj.permutation)
            grad_x = _SpMM.apply(twin, transposed, grad, ctx.engine)
        return None, grad_value, grad_x, None


class _SDDMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, left: Tensor, right: Tensor, engine: str | None) -> Tensor:
        ctx.adj, ctx.engine = adj, engine
        ctx.save_for_backward(left, right)
        return _dot(adj, left, right, engine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        adj: Adjacency = ctx.adj
        left, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[1]:
            grad_left = _SpMM.apply(adj, grad, right, ctx.engine)
        if ctx.needs_input_grad[2]:
            transposed = grad.index_select(0, adj.permutation)
            grad_right = _SpMM.apply(Adjacency(adj.structure.t()), transposed, left, ctx.engine)
        return None, grad_left, grad_right, None


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, x: Tensor, engine: str | None) -> Tensor:
        ctx.adj = adj
        return _segment(adj, x, "sum", engine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, _spread(ctx.adj, grad), None


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, x: Tensor, engine: str | None) -> Tensor:
        ctx.adj, ctx.engine = adj, engine
        out = _segment(adj, x, "max", engine)
        ctx.save_for_backward(x == _spread(adj, out))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        adj: Adjacency = ctx.adj
        (winner,) = ctx.saved_tensors
        share = winner.to(grad.dtype)
        # Winners that tie share the gradient, as torch.amax does it.
        count = _SegmentSum.apply(adj, share, ctx.engine).clamp(min=1)
        return None, share * _spread(adj, grad / count), None


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Adjacency, logits: Tensor, engine: str | None) -> Tensor:
        weight = (logits - _spread(adj, _segment(adj, logits, "max", engine))).exp_()
        weight /= _spread(adj, _segment(adj, weight, "sum", engine))
        ctx.adj, ctx.engine = adj, engine
        ctx.save_for_backward(weight)
        return weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        adj: Adjacency = ctx.adj
        (weight,) = ctx.saved_tensors
        product = weight * grad
        return None, product - weight * _spread(adj, _SegmentSum.apply(adj, product, ctx.engine)), None


def spmm(adj: Adjacency, x: Tensor, value: Tensor | None = None, *, engine: str | None = None) -> Tensor:
    r"""The product :math:`A X`, with gradients to `x` and to the edge values.

    It is computed in the type of `x`, in float32 at least, and edge values of another type are brought to that: those
    in float64 lose digits beside features in float32.

    Args:
        adj: The matrix.
        x: ``[num_cols, dim]`` floating point features.
        value: ``[num_edges]`` edge values to use in place of those of `adj`, in the order of its edges.
        engine: Who computes it.

    Shapes:
        - **output:** ``[num_rows, dim]`` of the type of `x`

    Raises:
        DataError: If `x` is no tensor, has another number of rows, another device, or is not floating point.
    """
    _check_dense("x", x, adj.num_cols, adj)
    if value is None:
        value = adj.value if adj.value is not None else adj.values(x.dtype)
    else:
        _check_edges("value", value, adj, columns=False)
    result: Tensor = _SpMM.apply(adj, value, x, engine)
    return result


def sddmm(adj: Adjacency, left: Tensor, right: Tensor, *, engine: str | None = None) -> Tensor:
    r"""The dot product :math:`\langle l_i, r_j \rangle` on every edge :math:`(i, j)`; edge values play no part.

    Args:
        adj: The structure.
        left: ``[num_rows, dim]``
        right: ``[num_cols, dim]``
        engine: Who computes it.

    Shapes:
        - **output:** ``[num_edges]``, in the order of the edges of `adj`; where `left` and `right` differ in type, as
          under autocast, of the wider one

    Raises:
        DataError: If one is no tensor, or has another shape or device, or is not floating point.
    """
    _check_dense("left", left, adj.num_rows, adj)
    _check_dense("right", right, adj.num_cols, adj)
    if left.size(1) != right.size(1):
        raise DataError(f"'left' and 'right' expect the same width (got {left.size(1)} and {right.size(1)})")
    if left.dtype != right.dtype:
        wider = torch.promote_types(left.dtype, right.dtype)
        left, right = left.to(wider), right.to(wider)
    result: Tensor = _SDDMM.apply(adj, left, right, engine)
    return result


def segment_reduce(
    adj: Adjacency, x: Tensor, reduce: Literal["sum", "mean", "max"] = "sum", *, engine: str | None = None
) -> Tensor:
    """Reduces the edges of each row; rows without edges give 0.

    Args:
        adj: The structure.
        x: ``[num_edges]`` or ``[num_edges, dim]``, in the order of the edges of `adj`.
        reduce: Which reduction.
        engine: Who computes it.

    Shapes:
        - **output:** ``[num_rows]`` or ``[num_rows, dim]``
    """
    _check_edges("x", x, adj, columns=True)
    if reduce not in ("sum", "mean", "max"):
        raise ConfigError(f"'reduce' expects 'sum', 'mean' or 'max' (got '{reduce}')")
    result: Tensor
    if reduce == "max":
        result = _SegmentMax.apply(adj, x, engine)
        return result
    result = _SegmentSum.apply(adj, x, engine)
    if reduce == "mean":
        degree = adj.degree().clamp(min=1).to(x.dtype)
        return result / degree.view(-1, *[1] * (x.dim() - 1))
    return result


def edge_softmax(adj: Adjacency, logits: Tensor, *, engine: str | None = None) -> Tensor:
    r"""Softmax over the edges of each row, :math:`\exp(e_{ij}) / \sum_{k \in N(i)} \exp(e_{ik})`, without overflow.

    Args:
        adj: The structure.
        logits: ``[num_edges]`` or ``[num_edges, num_heads]``, in the order of the edges of `adj`.
        engine: Who computes it.

    Shapes:
        - **output:** that of `logits`
    """
    _check_edges("logits", logits, adj, columns=True)
    result: Tensor = _EdgeSoftmax.apply(adj, logits.to(torch.promote_types(logits.dtype, torch.float32)), engine)
    return result.to(logits.dtype)


def attention_product(adj: Adjacency, logits: Tensor, x: Tensor, *, engine: str | None = None) -> tuple[Tensor, Tensor]:
    r"""Aggregates with softmax weights: :math:`y_i = \sum_j \alpha_{ij} x_j`, :math:`\alpha_i = softmax_j(e_{ij})`.

    No tensor of the size edges times columns is made, forward or backward.

    Args:
        adj: The graph; rows receive.
        logits: ``[num_edges]`` logits :math:`e_{ij}`, such as :func:`sddmm` gives for dot-product attention.
        x: ``[num_cols, dim]`` what the columns send.
        engine: Who computes it.

    Shapes:
        - **output:** ``[num_rows, dim]`` and the weights ``[num_edges]``
    """
    _check_edges("logits", logits, adj, columns=False)
    weight = edge_softmax(adj, logits, engine=engine)
    return spmm(adj, x, weight, engine=engine), weight


def _check_dense(name: str, x: Tensor, rows: int, adj: Adjacency) -> None:
    check_tensor(name, x, (rows, "dim"), adj.device, adj)


def _check_edges(name: str, x: Tensor, adj: Adjacency, columns: bool) -> None:
    wide = columns and isinstance(x, Tensor) and x.dim() == 2
    check_tensor(name, x, (adj.num_edges, "dim") if wide else (adj.num_edges,), adj.device, adj)
