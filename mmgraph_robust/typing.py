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

WITH_TORCH_SPARSE: bool = find_spec("torch_sparse") is not None
WITH_TORCH_SCATTER: bool = find_spec("torch_scatter") is not None
WITH_PYG_LIB: bool = find_spec("pyg_lib") is not None
# torch's own oneDNN as an operator on plain tensors, which its compiler uses.
WITH_ONEDNN: bool = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
WITH_FAISS: bool = find_spec("faiss") is not None
