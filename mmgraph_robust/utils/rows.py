"""Rows and their lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SHORTEST = 1e-12


def unit_rows(x: Tensor) -> Tensor:
    r"""Rows scaled to length one, :math:`x_i / \Vert x_i \Vert`, differentiable twice.

    A row shorter than 1e-12 (in float16 its smallest normal number) has no direction: it becomes zero, with a gradient
    of zero, where ``torch.nn.functional.normalize(x, dim=1)`` has one of 1e12, beside which those of all other rows
    vanish. Else it gives the same numbers as that, whose backward pass, through the norm and the quotient one by one,
    takes four to five times as long. A row whose squares overflow (in float32 from entries of about 1e19 on) becomes
    zero in both; searches of neighbours refuse it. torch.func's transforms do not know it.

    Args:
        x: ``[n, dim]``

    Shapes:
        - **output:** ``[n, dim]``
    """
    result: Tensor = _UnitRows.apply(x)
    return result


def row_lengths(x: Tensor) -> Tensor:
    r"""Lengths of rows to divide by, differentiable twice also where a row is zero, where
    :func:`torch.linalg.vector_norm` is not.

    Those of rows that are shorter than 1e-12 (in float16 than the root of its smallest normal number) are infinite, so
    that what is divided by them becomes zero and has no gradient, as in :func:`unit_rows`.

    Args:
        x: ``[n, dim]``

    Shapes:
        - **output:** ``[n, 1]``
    """
    shortest = max(_SHORTEST**2, torch.finfo(x.dtype).tiny)
    square = x.square().sum(1, keepdim=True)
    return square.masked_fill(square < shortest, torch.inf).sqrt()


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        unit = x / _length(x)
        ctx.save_for_backward(x, unit)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, unit = ctx.saved_tensors
        along = (grad * unit).sum(1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1) / _length(x)


def _length(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return length.masked_fill(length < max(_SHORTEST, torch.finfo(x.dtype).tiny), torch.inf)
