"""Search by faiss, where it is installed (extra ``faiss``)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.typing import WITH_FAISS

# From here on a flat index takes hours on a few cores.
_EXACT_ROWS = 100_000
_CELLS_VISITED = 32


def faiss_search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` other rows with the largest inner product to each row, by (value descending, row ascending).

    Among equal values at the end of the list, faiss decides which enter.

    Shapes:
        - **x** ``[num_nodes, dim]`` float32
        - **output:** two tensors ``[num_nodes, k]``, values and int64 rows

    Raises:
        ConfigError: If faiss is not installed, or its index finds too few.
    """
    if not WITH_FAISS:
        raise ConfigError("engine 'faiss' is not installed: pip install mmgraph_robust[faiss], or use engine 'torch'")
    if k == 0:
        return x.new_zeros(x.size(0), 0), torch.zeros(x.size(0), 0, dtype=torch.long, device=x.device)
    import faiss

    num_nodes = x.size(0)
    table = x.float().cpu().contiguous().numpy()
    exact = faiss.IndexFlatIP(x.size(1))
    index: Any = exact
    if num_nodes >= _EXACT_ROWS:
        cells = 4 * math.isqrt(num_nodes)
        index = faiss.IndexIVFFlat(exact, x.size(1), cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = _CELLS_VISITED
        index.train(table[:: max(1, num_nodes // (64 * cells))])
    index.add(table)
    values, rows = (torch.from_numpy(part) for part in index.search(table, min(k + 1, num_nodes)))
    own = rows == torch.arange(num_nodes).unsqueeze(1)
    # Where a row did not find itself (equal rows came first), its last neighbour goes instead.
    own[~own.any(1), -1] = True
    values, rows = values[~own].view(num_nodes, -1), rows[~own].view(num_nodes, -1)
    if bool((rows < 0).any()):
        raise ConfigError(f"faiss found fewer than k={k} neighbours for some rows; use engine 'torch'")
    rows, order = rows.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values.clamp(max=1.0).to(x), rows.gather(1, order).to(x.device)
