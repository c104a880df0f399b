"""torch-scatter, where it is installed (extra ``extensions``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmgraph_robust.sparse.engines.base import Engine, Reduction
from mmgraph_robust.typing import WITH_TORCH_SCATTER

if TYPE_CHECKING:
    from mmgraph_robust.sparse.adjacency import Adjacency


class TorchScatterEngine(Engine):
    """Reductions by ``segment_csr``, without atomics: deterministic on CUDA as well."""

    name = "torch_scatter"
    operations = frozenset({"segment"})
    deterministic_on_cuda = True

    def missing(self, device: torch.device) -> str | None:
        """The package has to be installed."""
        return None if WITH_TORCH_SCATTER else "torch-scatter is not installed: pip install mmgraph_robust[extensions]"

    def segment(self, adj: Adjacency, x: Tensor, reduce: Reduction) -> Tensor:
        """Reduction between row pointers."""
        from torch_scatter import segment_csr

        rowptr, _ = adj.long_pointers
        result: Tensor = segment_csr(x, rowptr, reduce=reduce)
        if reduce == "max":
            # Its maximum starts at the lowest finite number.
            result = result.masked_fill(result == torch.finfo(x.dtype).min, -torch.inf)
        return result
