"""The modes, training or evaluation, of a model's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import Module


@contextmanager
def keeping_modes(model: Module) -> Iterator[None]:
    """Whatever happens, every part of the model is left in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode, and then the modes as they were."""
    with keeping_modes(model):
        model.eval()
        yield
