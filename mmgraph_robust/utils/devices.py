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


def device_name(device: torch.device | str) -> str:
    """What computes there: a GPU's own name, else the kind of device.

    Args:
        device: The device.
    """
    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else kind
