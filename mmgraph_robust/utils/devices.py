"""Devices by name."""

from __future__ import annotations

import torch


def is_on(device: torch.device, wanted: torch.device | str) -> bool:
    """Whether what lies on one device is where it is wanted: ``"cuda"`` is the current one of several.

    Args:
        device: The device of a tensor.
        wanted: The device asked for.
    """
    wanted = torch.device(wanted)
    if str(wanted) == device.type == "cuda":
        return device.index == torch.cuda.current_device()
    return device == wanted
