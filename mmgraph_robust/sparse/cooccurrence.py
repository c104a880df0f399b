"""Graphs of rows that share columns."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.utils import is_whole

# Keys, their sorted copies and the positions that sorting returns, all int64.
_BYTES_PER_PAIR = 64


def cooccurrence_graph(adj: Adjacency, k: int, *, memory: int = 1 << 26) -> Adjacency:
    r"""The graph in which every row gathers from the `k` other rows that share the most columns with it.

    These are the largest entries per row of :math:`A A^\top` without its diagonal, ordered by (count descending, row
    ascending); a row that shares columns with fewer others has fewer edges. Only pairs that share a column are ever
    listed, and no more of them at a time than `memory` holds: no matrix of rows by rows exists.

    Args:
        adj: The matrix, e.g. of users by items; its edge values play no part, duplicate edges count each.
        k: Neighbours per row, itself left out.
        memory: Bytes for the pairs that are listed at a time; a single row may need more.

    Shapes:
        - **output:** an :class:`Adjacency` ``[num_rows, num_rows]`` whose edge values are the counts

    Raises:
        ConfigError: If `k` is no whole number or below 1.
    """
    if not is_whole(k) or k < 1:
        raise ConfigError(f"'k' expects a whole number >= 1 (got {k})")
    twin = adj.t()
    partners = twin.degree()[adj.col.long()]
    total = torch.cat([partners.new_zeros(1), partners.cumsum(0)])[adj.rowptr.long()].cpu()
    blocks = _blocks(total, max(1, memory // _BYTES_PER_PAIR))
    found = [_block(adj, twin, partners, k, start, stop) for start, stop in blocks]
    row, col, count = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Adjacency.from_edge_index(
        torch.stack([row, col]), num_rows=adj.num_rows, num_cols=adj.num_rows, values=count.float()
    )


def _blocks(total: Tensor, limit: int) -> list[tuple[int, int]]:
    """Ranges of rows with at most `limit` pairs each, or of a single row; `total` counts the pairs before each row."""
    num_rows = total.numel() - 1
    result, start = [], 0
    while start < num_rows:
        stop = int(torch.searchsorted(total, total[start] + limit, right=True)) - 1
        stop = min(max(stop, start + 1), num_rows)
        result.append((start, stop))
        start = stop
    return result or [(0, 0)]


def _block(
    adj: Adjacency, twin: Adjacency, partners: Tensor, k: int, start: int, stop: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The edges of the rows from `start` to `stop`: row, neighbour and count."""
    low, high = int(adj.rowptr[start]), int(adj.rowptr[stop])
    number = partners[low:high]
    # Edge (r, c) meets every row of column c.
    row = torch.repeat_interleave(adj.row[low:high].long(), number)
    first = torch.repeat_interleave(twin.rowptr.long()[adj.col[low:high].long()] - (number.cumsum(0) - number), number)
    other = twin.col[first + torch.arange(row.numel(), device=row.device)].long()
    keep = row != other
    key, count = torch.unique(row[keep] * adj.num_rows + other[keep], return_counts=True)
    row, other = key // max(adj.num_rows, 1), key % max(adj.num_rows, 1)
    # Keys ascend, so a stable sort leaves equal counts in the order of their rows.
    most = int(count.max()) + 1 if count.numel() > 0 else 1
    order = torch.argsort(row * most + (most - 1 - count), stable=True)
    row, other, count = row[order], other[order], count[order]
    size = torch.bincount(row - start, minlength=stop - start)
    rank = torch.arange(row.numel(), device=row.device) - (size.cumsum(0) - size)[row - start]
    near = rank < k
    return row[near], other[near], count[near]
