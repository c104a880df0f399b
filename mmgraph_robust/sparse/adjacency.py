"""A sparse matrix over nodes, compiled once for products in both directions."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError

Normalization: TypeAlias = Literal["sym", "row", "col"]


class Adjacency:
    r"""A sparse matrix :math:`A` of shape ``[num_rows, num_cols]``: CSR, and the CSR of its transpose.

    Row ``i`` gathers from column ``j`` along edge ``(i, j)``: ``spmm(adj, x)[i] = sum_j value_ij x[j]``. Both
    directions share one edge order (sorted by row, then column), in which all edge values are given and returned.
    The structure never changes; :meth:`with_value` gives it other values at no cost.

    Duplicate edges are kept and add up, as everywhere in PyG.

    Args:
        rowptr: ``[num_rows + 1]`` row pointers.
        col: ``[num_edges]`` columns.
        num_cols: Number of columns.
        value: ``[num_edges]`` edge values; :obj:`None` stands for ones. May require gradients.
        order: ``[num_edges]`` position of each edge in the list that it was built from.
    """

    def __init__(
        self, rowptr: Tensor, col: Tensor, num_cols: int, value: Tensor | None = None, order: Tensor | None = None
    ) -> None:
        self.rowptr = rowptr
        self.col = col
        self.num_rows = rowptr.numel() - 1
        self.num_cols = int(num_cols)
        self.value = value
        self._order = order
        self._transpose: Adjacency | None = None
        self._permutation: Tensor | None = None

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        *,
        num_rows: int | None = None,
        num_cols: int | None = None,
        values: Tensor | None = None,
    ) -> Adjacency:
        """Compiles a list of edges ``(row, column)``.

        Args:
            edge_index: ``[2, num_edges]`` integers, row 0 holding the rows of the matrix.
            num_rows: Number of rows (default: the largest row + 1).
            num_cols: Number of columns (default: the largest column + 1).
            values: ``[num_edges]`` edge values in the order of `edge_index`.

        Raises:
            DataError: If shapes, types or ids do not fit.
        """
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise DataError(f"'edge_index' expects shape [2, num_edges] (got {list(edge_index.shape)})")
        if edge_index.is_floating_point() or edge_index.dtype == torch.bool:
            raise DataError(f"'edge_index' expects integers (got {edge_index.dtype})")
        row, col = edge_index[0].long(), edge_index[1].long()
        num_rows = _check_ids("num_rows", row, num_rows)
        num_cols = _check_ids("num_cols", col, num_cols)
        if values is not None:
            _check_values(values, row.numel(), edge_index.device)
        order = torch.argsort(row * max(num_cols, 1) + col, stable=True)
        row, col = row[order], col[order]
        rowptr = _pointers(row, num_rows)
        index_type = torch.int32 if max(num_rows, num_cols, row.numel()) < 2**31 else torch.int64
        return cls(
            rowptr.to(index_type),
            col.to(index_type),
            num_cols,
            None if values is None else values[order],
            order,
        )

    @property
    def num_edges(self) -> int:
        """Number of stored edges."""
        return self.col.numel()

    @property
    def shape(self) -> tuple[int, int]:
        """``(num_rows, num_cols)``."""
        return self.num_rows, self.num_cols

    @property
    def device(self) -> torch.device:
        """Where the arrays live."""
        return self.col.device

    @cached_property
    def row(self) -> Tensor:
        """``[num_edges]`` row of every edge."""
        counts = self.rowptr.diff()
        return torch.repeat_interleave(
            torch.arange(self.num_rows, device=self.device, dtype=self.col.dtype), counts, output_size=self.num_edges
        )

    @cached_property
    def order(self) -> Tensor:
        """``[num_edges]`` position of every edge in the list that the matrix was built from."""
        if self._order is None:
            return torch.arange(self.num_edges, device=self.device)
        return self._order

    @cached_property
    def permutation(self) -> Tensor:
        """``[num_edges]`` for every edge of the transpose, its position in this matrix's edge order."""
        if self._permutation is not None:
            return self._permutation
        return torch.argsort(self.col, stable=True)

    def t(self) -> Adjacency:
        """The transpose; it shares this matrix's arrays, and its own transpose is this matrix."""
        if self._transpose is None:
            permutation = self.permutation
            transpose = Adjacency(
                _pointers(self.col[permutation].long(), self.num_cols).to(self.rowptr.dtype),
                self.row[permutation],
                self.num_rows,
                None if self.value is None else self.value[permutation],
                self.order[permutation],
            )
            inverse = torch.empty_like(permutation)
            inverse[permutation] = torch.arange(self.num_edges, device=self.device)
            transpose._permutation = inverse
            transpose._transpose = self
            self._transpose = transpose
        return self._transpose

    def with_value(self, value: Tensor | None) -> Adjacency:
        """The same structure with other edge values, given in this matrix's edge order.

        Args:
            value: ``[num_edges]``, or :obj:`None` for ones.
        """
        if value is not None:
            _check_values(value, self.num_edges, self.device)
        other = Adjacency(self.rowptr, self.col, self.num_cols, value, self._order)
        # Everything below depends on the structure alone.
        other.__dict__["row"] = self.row
        transpose = self.t()
        other._permutation = self.permutation
        twin = Adjacency(
            transpose.rowptr,
            transpose.col,
            transpose.num_cols,
            None if value is None else value[self.permutation],
            transpose._order,
        )
        twin.__dict__["row"] = transpose.row
        twin._permutation = transpose.permutation
        twin._transpose = other
        other._transpose = twin
        return other

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """``[num_edges]`` edge values, ones where none are stored."""
        if self.value is None:
            return torch.ones(self.num_edges, dtype=dtype, device=self.device)
        return self.value.to(dtype)

    def degree(self) -> Tensor:
        """``[num_rows]`` number of stored edges of every row (int64)."""
        return self.rowptr.diff().long()

    def normalize(self, how: Normalization) -> Adjacency:
        r"""Normalised edge values from row sums :math:`r` and column sums :math:`c` of the values.

        ``"sym"``: :math:`r_i^{-1/2} a_{ij} c_j^{-1/2}`; ``"row"``: :math:`a_{ij} / r_i`, the mean over neighbours and
        the transition matrix of a random walk; ``"col"``: :math:`a_{ij} / c_j`. Sums that are not positive give 0.
        """
        value = self.values()
        row_sum = value.new_zeros(self.num_rows).index_add(0, self.row, value)
        col_sum = value.new_zeros(self.num_cols).index_add(0, self.col, value)
        if how == "sym":
            value = value * _power(row_sum, -0.5)[self.row] * _power(col_sum, -0.5)[self.col]
        elif how == "row":
            value = value * _power(row_sum, -1.0)[self.row]
        elif how == "col":
            value = value * _power(col_sum, -1.0)[self.col]
        else:
            raise ConfigError(f"'how' expects 'sym', 'row' or 'col' (got '{how}')")
        return self.with_value(value)

    def to(self, device: torch.device | str) -> Adjacency:
        """The same matrix on another device (itself where it is there already)."""
        device = torch.device(device)
        if device == self.device:
            return self
        value = None if self.value is None else self.value.to(device)
        order = None if self._order is None else self._order.to(device)
        return Adjacency(self.rowptr.to(device), self.col.to(device), self.num_cols, value, order)

    def edge_index(self) -> Tensor:
        """``[2, num_edges]`` int64 rows and columns, in this matrix's edge order."""
        return torch.stack([self.row.long(), self.col.long()])

    def to_dense(self) -> Tensor:
        """``[num_rows, num_cols]``; for tests and tiny graphs."""
        value = self.values()
        dense = torch.zeros(self.num_rows * self.num_cols, dtype=value.dtype, device=self.device)
        return dense.index_add(0, self.row.long() * self.num_cols + self.col.long(), value).view(*self.shape)

    def __repr__(self) -> str:
        weighted = "" if self.value is None else ", weighted"
        return f"{type(self).__name__}({self.num_rows} x {self.num_cols}, num_edges={self.num_edges}{weighted})"


def _pointers(sorted_index: Tensor, size: int) -> Tensor:
    pointers = torch.zeros(size + 1, dtype=torch.long, device=sorted_index.device)
    torch.cumsum(torch.bincount(sorted_index, minlength=size), 0, out=pointers[1:])
    return pointers


def _power(total: Tensor, exponent: float) -> Tensor:
    # A learned graph may have rows that sum to zero or less; they send and receive nothing rather than NaN.
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return torch.where(total > 0, safe.pow(exponent), torch.zeros_like(total))


def _check_ids(name: str, ids: Tensor, size: int | None) -> int:
    if ids.numel() == 0:
        return size or 0
    low, high = int(ids.min()), int(ids.max())
    if low < 0:
        raise DataError(f"'edge_index' expects ids >= 0 (got {low})")
    if size is None:
        return high + 1
    if high >= size:
        raise DataError(f"'edge_index' holds id {high}, but '{name}' is {size}: ids must be below it")
    return size


def _check_values(values: Tensor, num_edges: int, device: torch.device) -> None:
    if values.dim() != 1 or values.numel() != num_edges:
        raise DataError(f"'values' expects shape [{num_edges}], one per edge (got {list(values.shape)})")
    if not values.is_floating_point():
        raise DataError(f"'values' expects floating point numbers (got {values.dtype})")
    if values.device != device:
        raise DataError(f"'values' is on {values.device} but the edges are on {device}: move one of them")
