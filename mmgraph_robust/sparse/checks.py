"""What a tensor has to be, to be computed with."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.errors import DataError


def check_tensor(name: str, x: Tensor, shape: tuple[int | str, ...], device: torch.device, user: object) -> None:
    """Says which argument does not fit, and how.

    Args:
        name: The argument's name.
        x: The argument.
        shape: The size of every dimension; a word stands for any size.
        device: Where it has to be.
        user: What needs it, for the message.

    Raises:
        DataError: If `x` is no tensor, has another shape, holds anything but floating point numbers, or is on another
            device.
    """
    if not isinstance(x, Tensor):
        raise DataError(f"'{name}' expects a tensor (got {type(x).__name__})")
    fixed = [(i, size) for i, size in enumerate(shape) if not isinstance(size, str)]
    if x.dim() != len(shape) or any(x.size(i) != size for i, size in fixed):
        raise DataError(f"'{name}' expects shape [{', '.join(map(str, shape))}] for {user} (got {list(x.shape)})")
    if not x.is_floating_point():
        raise DataError(f"'{name}' expects floating point numbers (got {x.dtype}): call .float()")
    if x.device != device:
        raise DataError(f"'{name}' is on {x.device} but {user} is on {device}: move one of them")
