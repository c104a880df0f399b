"""Type aliases, and which optional packages are here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Features: TypeAlias = dict[str, Tensor]
"""Item features by modality: ``{"visual": [num_items, dim], ...}``."""

Split: TypeAlias = Literal["train", "val", "test"]
"""The part of the interactions that a computation reads."""


def _onednn_multiplies() -> bool:
    """Whether torch's oneDNN is here as an operator on plain tensors, which its compiler uses and no one promises."""
    ones = torch.ones(2, 2)
    try:
        found = torch.ops.mkldnn._linear_pointwise(ones, ones, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, ones @ ones)


WITH_TORCH_SPARSE: bool = find_spec("torch_sparse") is not None
WITH_TORCH_SCATTER: bool = find_spec("torch_scatter") is not None
WITH_ONEDNN: bool = torch.backends.mkldnn.is_available() and _onednn_multiplies()
WITH_FAISS: bool = find_spec("faiss") is not None
