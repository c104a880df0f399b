"""Rows and their lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SHORTEST = 1e-12


def unit_rows(x: Tensor) -> Tensor:
    r"""Rows scaled to length one, :math:`x_i / \max(\Vert x_i \Vert, 10^{-12})`, differentiable twice; in float16 the
    bound is its smallest normal number.

    The same numbers as ``torch.nn.functional.normalize(x, dim=1)``, whose backward pass, through the norm and the
    quotient one by one, takes four to five times as long. torch.func's transforms do not know it.

    Args:
        x: ``[n, dim]``

    Shapes:
        - **output:** ``[n, dim]``
    """
    result: Tensor = _UnitRows.apply(x)
    return result


def row_lengths(x: Tensor) -> Tensor:
    r"""Lengths of rows, :math:`\max(\Vert x_i \Vert, 10^{-12})`, differentiable twice also where a row is zero, where
    :func:`torch.linalg.vector_norm` is not.

    Args:
        x: ``[n, dim]``

    Shapes:
        - **output:** ``[n, 1]``
    """
    shortest = max(_SHORTEST**2, torch.finfo(x.dtype).tiny)
    return x.square().sum(1, keepdim=True).clamp(min=shortest).sqrt()


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        unit = x / _length(x)
        ctx.save_for_backward(x, unit)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, unit = ctx.saved_tensors
        # Shorter rows are divided by a constant; of these, what is taken away here is next to nothing.
        along = (grad * unit).sum(1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1) / _length(x)


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=max(_SHORTEST, torch.finfo(x.dtype).tiny))
