"""Where the entries of a sparse matrix are, without their values."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Structure:
    """The pattern of a sparse matrix in CSR form; what follows from it is computed once, when it is first needed.

    All of it can be trained on, even where ``torch.inference_mode`` was the first to need it.

    Args:
        rowptr: ``[num_rows + 1]`` row pointers.
        col: ``[num_edges]`` columns, ascending within a row.
        num_cols: Number of columns.
        order: ``[num_edges]`` position of each edge in the list that it was built from; :obj:`None` for 0, 1, ...
        permutation: See :attr:`permutation`, where it is known.
    """

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        num_cols: int,
        order: Tensor | None = None,
        permutation: Tensor | None = None,
    ) -> None:
        self.rowptr = lasting(rowptr)
        self.col = lasting(col)
        self.num_rows = rowptr.numel() - 1
        self.num_cols = num_cols
        self._order = None if order is None else lasting(order)
        self._transpose: Structure | None = None
        if permutation is not None:
            self.permutation = lasting(permutation)

    @classmethod
    def from_pairs(cls, row: Tensor, col: Tensor, num_rows: int, num_cols: int) -> Structure:
        """Sorts int64 pairs by (row, column); equal pairs keep their order."""
        key = row * max(num_cols, 1) + col
        order = None
        if key.numel() > 1 and bool((key[1:] < key[:-1]).any()):
            order = torch.argsort(key, stable=True)
            row, col = row[order], col[order]
        kind = torch.int32 if max(num_rows, num_cols, row.numel()) < 2**31 else torch.int64
        return cls(pointers(row, num_rows).to(kind), col.to(kind), num_cols, order)

    @property
    def num_edges(self) -> int:
        """Number of entries."""
        return self.col.numel()

    @cached_property
    def row(self) -> Tensor:
        """``[num_edges]`` row of every edge."""
        rows = torch.arange(self.num_rows, device=self.col.device, dtype=self.col.dtype)
        return lasting(torch.repeat_interleave(rows, self.rowptr.diff(), output_size=self.num_edges))

    @cached_property
    def order(self) -> Tensor:
        """``[num_edges]`` position of every edge in the list that the matrix was built from."""
        return lasting(torch.arange(self.num_edges, device=self.col.device)) if self._order is None else self._order

    @cached_property
    def permutation(self) -> Tensor:
        """``[num_edges]`` for every edge of the transpose, its position in this edge order."""
        return lasting(torch.argsort(self.col, stable=True))

    @cached_property
    def long_pointers(self) -> tuple[Tensor, Tensor]:
        """``rowptr`` and ``col`` as int64, for engines that know no other."""
        return lasting(self.rowptr.long()), lasting(self.col.long())

    def t(self) -> Structure:
        """The transpose's pattern; its own transpose is this one."""
        if self._transpose is None:
            permutation = self.permutation
            inverse = torch.empty_like(permutation)
            inverse[permutation] = torch.arange(self.num_edges, device=self.col.device)
            rowptr = pointers(self.col.long(), self.num_cols).to(self.rowptr.dtype)
            transpose = Structure(rowptr, self.row[permutation], self.num_rows, self.order[permutation], inverse)
            transpose._transpose = self
            self._transpose = transpose
        return self._transpose

    def select(self, keep: Tensor) -> Structure:
        """The pattern of the edges where the boolean `keep` is true, without sorting again."""
        position = torch.zeros(self.num_edges + 1, dtype=torch.long, device=self.col.device)
        torch.cumsum(keep, 0, out=position[1:])
        kept = self.permutation[keep[self.permutation]]
        rowptr = position[self.rowptr.long()].to(self.rowptr.dtype)
        return Structure(rowptr, self.col[keep], self.num_cols, self.order[keep], position[kept])

    def bipartite(self) -> Structure:
        """The square pattern of this one and its transpose off the diagonal, without sorting again."""
        twin = self.t()
        edges = self.num_edges
        return Structure(
            torch.cat([self.rowptr, twin.rowptr[1:] + edges]),
            torch.cat([self.col + self.num_rows, twin.col]),
            self.num_rows + self.num_cols,
            torch.cat([self.order, twin.order + edges]),
            torch.cat([twin.permutation + edges, self.permutation]),
        )

    def to(self, device: torch.device) -> Structure:
        """The same pattern on another device."""
        order = None if self._order is None else self._order.to(device)
        return Structure(self.rowptr.to(device), self.col.to(device), self.num_cols, order)


def pointers(index: Tensor, size: int) -> Tensor:
    """Row pointers ``[size + 1]`` from the rows of the entries."""
    result = torch.zeros(size + 1, dtype=torch.long, device=index.device)
    torch.cumsum(torch.bincount(index, minlength=size), 0, out=result[1:])
    return result


def lasting(x: Tensor) -> Tensor:
    """`x`, or a copy of it where it was made under ``torch.inference_mode`` and could never be trained on."""
    if not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()
