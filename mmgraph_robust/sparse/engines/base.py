"""What a sparse engine offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency

Operation: TypeAlias = Literal["matmul", "dot", "segment"]
Reduction: TypeAlias = Literal["sum", "max"]


class Engine:
    """Plain kernels on an :class:`~mmgraph_robust.sparse.Adjacency`, without autograd: gradients are built from them in
    ``ops.py``. Inputs are checked there and come in float32 or float64; every engine gives the same results up to
    rounding.

    Attributes:
        name: How the engine is asked for.
        operations: What it has; the default engine does the rest.
        dtypes: The types for which it may be the default; asked for by name, it does both.
        deterministic_on_cuda: Whether two runs on CUDA give the same bits.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[Operation]]
    dtypes: ClassVar[frozenset[torch.dtype]] = frozenset({torch.float32, torch.float64})
    deterministic_on_cuda: ClassVar[bool] = False

    def missing(self, device: torch.device) -> str | None:
        """Why the engine cannot run on `device`, or :obj:`None` where it can."""
        return None

    def matmul(self, adj: Adjacency, value: Tensor, x: Tensor) -> Tensor:
        """``A @ x``: values ``[num_edges]`` and ``[num_cols, dim]`` to ``[num_rows, dim]``."""
        raise NotImplementedError

    def dot(self, adj: Adjacency, left: Tensor, right: Tensor) -> Tensor:
        """``<left[i], right[j]>`` on every edge: ``[num_rows, dim]``, ``[num_cols, dim]`` to ``[num_edges]``."""
        raise NotImplementedError

    def segment(self, adj: Adjacency, x: Tensor, reduce: Reduction) -> Tensor:
        """Reduces the edges of each row: ``[num_edges, *]`` to ``[num_rows, *]``, 0 for rows without edges."""
        raise NotImplementedError
