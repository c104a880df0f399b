"""Parts of a compiled matrix, cut out without sorting."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.structure import Structure


def cut_rows(adj: Adjacency, rows: Tensor, keep: Tensor | None = None) -> tuple[Adjacency, Tensor]:
    """Some rows of a matrix without the columns that have no entry there.

    Args:
        adj: The matrix.
        rows: ``[n]`` ids of its rows, ascending, no two the same.
        keep: Ids of columns that stay even if they are empty.

    Shapes:
        - **output:** a matrix ``[n, m]`` with the values of `adj`, and the ``[m]`` ids of its columns, ascending
    """
    wanted, present = (torch.zeros(size, dtype=torch.bool, device=adj.device) for size in adj.shape)
    wanted[rows] = True
    part = adj.select(wanted.index_select(0, adj.row))
    present[part.col.long()] = True
    if keep is not None:
        present[keep] = True
    columns = present.nonzero().squeeze(1)
    place = (torch.cumsum(present, 0) - 1).to(part.col.dtype)
    # Rows that are left out are empty by now, so where the others end is where they begin.
    rowptr = torch.cat([part.rowptr[:1], part.rowptr[1:].index_select(0, rows)])
    # The same entries in the same order, so the transpose's order is the same as well.
    permutation = part.permutation
    structure = Structure(rowptr, place.index_select(0, part.col), columns.numel(), permutation=permutation)
    return Adjacency(structure, part.value), columns
