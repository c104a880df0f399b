"""Fusion of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn.init import reset_linear
from mmgraph_robust.nn.linear import Linear
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.utils import Checked

Fusion = Literal["concat", "sum", "mean", "max", "weighted", "attention"]


class ModalityFusion(Checked, torch.nn.Module):
    r"""One vector per node from one per modality.

    .. math::
        y = \begin{cases} [x^1 \Vert \dots \Vert x^M] & \text{concat} \\
        \sum_m a_m x^m, \quad a = \mathrm{softmax}(w) & \text{weighted} \\
        \sum_m \alpha_{m} x^m, \quad \alpha_{m} = \mathrm{softmax}_m\big(q^\top \tanh(W x^m + b)\big) & \text{attention}
        \end{cases}

    or the ``sum``, ``mean`` or ``max`` over the modalities. ``weighted`` learns one importance per modality (as LATTICE
    does), ``attention`` one per node and modality (as MGCN does).

    Args:
        mode: How.
        num_modalities: Number of modalities, checked where it is given; needed for ``weighted``.
        channels: Width of the vectors; needed for ``attention``.

    Shapes:
        - **input:** a list of ``[num_nodes, channels]``
        - **output:** ``[num_nodes, channels]``, or ``[num_nodes, num_modalities * channels]`` for ``concat``
    """

    def __init__(self, mode: Fusion = "concat", num_modalities: int | None = None, channels: int | None = None) -> None:
        super().__init__()
        if mode not in get_args(Fusion):
            raise ConfigError(f"'{type(self).__name__}' expects mode one of {get_args(Fusion)} (got '{mode}')")
        if (mode == "weighted" and num_modalities is None) or (mode == "attention" and channels is None):
            needed = "num_modalities" if mode == "weighted" else "channels"
            raise ConfigError(f"'{type(self).__name__}' expects {needed} for mode '{mode}' (got None)")
        given = {"num_modalities": num_modalities, "channels": channels}
        self._check_counts(**{name: count for name, count in given.items() if count is not None})
        self.mode = mode
        self.num_modalities = num_modalities
        self.channels = channels
        if mode == "weighted":
            self.weight = torch.nn.Parameter(torch.empty(num_modalities or 0))
        elif mode == "attention":
            self.lin = Linear(channels or 0, channels or 0)
            self.query = Linear(channels or 0, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws new weights."""
        if self.mode == "weighted":
            torch.nn.init.zeros_(self.weight)
        elif self.mode == "attention":
            reset_linear(self.lin, generator)
            reset_linear(self.query, generator)

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Fuses the modalities."""
        if not xs:
            raise DataError("'xs' expects one or more modalities (got none)")
        self._check_number(len(xs))
        width = "channels" if self.mode == "concat" else self.channels or xs[0].size(-1)
        for i, x in enumerate(xs):
            check_tensor(f"xs[{i}]", x, (xs[0].size(0), width), xs[0].device, self)
        if self.mode == "concat":
            return torch.cat(list(xs), dim=1)
        x = torch.stack(list(xs), dim=1)
        if self.mode == "max":
            return x.amax(dim=1)
        if self.mode in ("sum", "mean"):
            return x.sum(dim=1) if self.mode == "sum" else x.mean(dim=1)
        return (self.importance(x) * x).sum(dim=1)

    def importance(self, x: Tensor) -> Tensor:
        """The shares that ``weighted`` and ``attention`` fuse with: a sum of parts, one per modality.

        Args:
            x: ``[num_nodes, num_modalities, channels]``

        Shapes:
            - **output:** ``[num_nodes, num_modalities, 1]``, or ``[num_modalities, 1]`` for ``weighted``
        """
        if self.mode == "attention":
            return torch.softmax(self.query(torch.tanh(self.lin(x))), dim=1)
        if self.mode != "weighted":
            raise ConfigError(f"mode '{self.mode}' has no shares; 'weighted' and 'attention' have")
        self._check_number(x.size(1))
        return torch.softmax(self.weight, dim=0).unsqueeze(1)

    def _check_number(self, number: int) -> None:
        if self.num_modalities not in (None, number):
            raise DataError(f"'xs' expects {self.num_modalities} modalities (got {number})")

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.mode}', num_modalities={self.num_modalities}, channels={self.channels})"
