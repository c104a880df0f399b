"""Parts of a compiled matrix, cut out without sorting."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.structure import Structure


def take_rows(adj: Adjacency, rows: Tensor) -> Adjacency:
    """``[n, num_cols]``: some rows of a matrix, in the order given, with their values.

    Args:
        adj: The matrix.
        rows: ``[n]`` ids of its rows.
    """
    rowptr = adj.rowptr.long()
    start, degree = rowptr[rows], rowptr[rows + 1] - rowptr[rows]
    pointers = torch.zeros(rows.numel() + 1, dtype=torch.long, device=adj.device)
    torch.cumsum(degree, 0, out=pointers[1:])
    edge = torch.arange(int(pointers[-1]), device=adj.device)
    edge = edge + (start - pointers[:-1]).repeat_interleave(degree, output_size=edge.numel())
    structure = Structure(pointers.to(adj.rowptr.dtype), adj.col.index_select(0, edge), adj.num_cols)
    return Adjacency(structure, None if adj.value is None else adj.value.index_select(0, edge))


def drop_empty_columns(adj: Adjacency) -> tuple[Adjacency, Tensor]:
    """The matrix without the columns that have no entry, and the ``[m]`` ids of those that stay, ascending."""
    present = torch.zeros(adj.num_cols, dtype=torch.bool, device=adj.device)
    present[adj.col.long()] = True
    kept = present.nonzero().squeeze(1)
    place = torch.cumsum(present, 0).to(adj.col.dtype) - 1
    structure = Structure(adj.rowptr, place.index_select(0, adj.col), kept.numel())
    return Adjacency(structure, adj.value), kept
