"""Products of dense matrices by the faster of torch's libraries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmgraph_robust.typing import WITH_ONEDNN


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``, differentiable twice, by oneDNN where that is float32 on the CPU.

    On AMD's processors the library that torch calls for matrix products (MKL) leaves their widest instructions unused;
    oneDNN, which comes with torch as well, uses them, and took a half to a third of the time where it was measured.
    torch.func's transforms do not know it: use ``@`` inside them.

    Args:
        left: ``[n, k]``
        right: ``[k, m]``

    Shapes:
        - **output:** ``[n, m]``
    """
    # Not asked in the backward pass, where all is dense, and where torch.compile cannot ask.
    if left.layout != torch.strided or right.layout != torch.strided:
        return left @ right
    return _product(left, right)


def _product(left: Tensor, right: Tensor) -> Tensor:
    if not _by_onednn(left, right):
        return left @ right
    result: Tensor = _Matmul.apply(left, right)
    return result


def _by_onednn(left: Tensor, right: Tensor) -> bool:
    return (
        WITH_ONEDNN
        and left.dim() == right.dim() == 2
        and left.dtype == right.dtype == torch.float32
        and left.device.type == right.device.type == "cpu"
        and left.size(1) == right.size(0)  # else torch says what is wrong
        and 0 not in (*left.shape, *right.shape)
        and not torch.is_autocast_enabled("cpu")
    )


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        weight = right.detach().t()
        if not (weight.is_contiguous() or weight.t().is_contiguous()):
            # Of a matrix with gaps, such as some columns of another, oneDNN reads entry by entry (a thousand times
            # slower), or refuses it.
            weight = weight.contiguous()
        result: Tensor = torch.ops.mkldnn._linear_pointwise(left.detach(), weight, None, "none", [], "")
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        need_left, need_right = ctx.needs_input_grad
        # The long side of the gradient of a weight is summed over: oneDNN is fastest if it is that of the first factor.
        return (
            _product(grad, right.t()) if need_left else None,
            _product(grad.t(), left).t() if need_right else None,
        )
