"""A dense layer."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.utils import matmul


class Linear(torch.nn.Linear):
    r""":class:`torch.nn.Linear`, :math:`x W^\top + b`, by the faster of torch's libraries
    (:func:`mmgraph_robust.utils.matmul`), which torch.func's transforms do not know."""

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in_features]`` to ``[n, out_features]``."""
        # Tensors without data have no autocast that could be asked for.
        autocast = x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)
        if x.dim() != 2 or autocast:
            return super().forward(x)
        y = matmul(x, self.weight.t())
        return y if self.bias is None else y + self.bias
