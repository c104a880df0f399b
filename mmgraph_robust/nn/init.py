"""Initialisation from an explicit generator; torch's own modules draw from the global one."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reset_linear(linear: torch.nn.Linear, generator: torch.Generator | None = None) -> None:
    """PyTorch's default for :class:`torch.nn.Linear`: uniform in :math:`\\pm 1/\\sqrt{fan\\_in}`."""
    bound = 1.0 / math.sqrt(max(linear.in_features, 1))
    torch.nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    if linear.bias is not None:
        torch.nn.init.uniform_(linear.bias, -bound, bound, generator=generator)


def xavier_linear(linear: torch.nn.Linear, generator: torch.Generator | None = None) -> None:
    """Xavier-normal weight and zero bias."""
    torch.nn.init.xavier_normal_(linear.weight, generator=generator)
    if linear.bias is not None:
        torch.nn.init.zeros_(linear.bias)


def xavier_linears(module: torch.nn.Module, generator: torch.Generator | None = None) -> None:
    """Xavier-uniform weights and zero biases in every linear layer of a module."""
    for linear in module.modules():
        if isinstance(linear, torch.nn.Linear):
            xavier_uniform(linear.weight, generator)
            if linear.bias is not None:
                torch.nn.init.zeros_(linear.bias)


def xavier_normal(parameter: Tensor, generator: torch.Generator | None = None) -> None:
    """Xavier-normal values."""
    torch.nn.init.xavier_normal_(parameter, generator=generator)


def xavier_uniform(parameter: Tensor, generator: torch.Generator | None = None) -> None:
    """Xavier-uniform values."""
    torch.nn.init.xavier_uniform_(parameter, generator=generator)
