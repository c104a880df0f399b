"""A sparse matrix over nodes, compiled once for products in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.sparse.structure import Structure, lasting
from mmgraph_robust.utils import is_on, is_whole

Normalization: TypeAlias = Literal["sym", "row", "col", "gcn"]


class Adjacency:
    r"""A sparse matrix :math:`A` of shape ``[num_rows, num_cols]``: CSR, and the CSR of its transpose.

    Row ``i`` gathers from column ``j`` along edge ``(i, j)``: ``spmm(adj, x)[i] = sum_j value_ij x[j]``. Both
    directions share one edge order (sorted by row, then column), in which all edge values are given and returned.
    The structure never changes; :meth:`with_value` gives it other values at no cost, :meth:`select` drops edges
    without sorting again.

    Duplicate edges are kept and add up, as everywhere in PyG. A matrix made or first used under
    ``torch.inference_mode`` can be trained on later.

    Args:
        structure: Where the entries are; use :meth:`from_edge_index` or :meth:`from_matrix` to build one.
        value: ``[num_edges]`` edge values; :obj:`None` stands for ones. May require gradients.
    """

    def __init__(self, structure: Structure, value: Tensor | None = None) -> None:
        self.structure = structure
        self.value = None if value is None else lasting(value)
        self._transpose: Adjacency | None = None
        # Values that were changed in place since must not be met in the transpose as they were.
        self._version: int | None = None

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
            edge_index: ``[2, num_edges]`` integers, row 0 holding the rows of the matrix; PyG's ``EdgeIndex`` as well.
            num_rows: Number of rows (default: the largest row + 1, or the size that an ``EdgeIndex`` carries).
            num_cols: Number of columns (default: likewise).
            values: ``[num_edges]`` edge values in the order of `edge_index`.

        Raises:
            DataError: If shapes, types or ids do not fit.
        """
        if not isinstance(edge_index, Tensor) or edge_index.layout != torch.strided:
            raise DataError(
                f"'edge_index' expects a dense tensor [2, num_edges] (got {_kind(edge_index)}); "
                f"Adjacency.from_matrix takes sparse matrices"
            )
        if hasattr(edge_index, "sparse_size") and hasattr(edge_index, "as_tensor"):
            num_rows = edge_index.sparse_size(0) if num_rows is None else num_rows
            num_cols = edge_index.sparse_size(1) if num_cols is None else num_cols
            edge_index = edge_index.as_tensor()
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise DataError(f"'edge_index' expects shape [2, num_edges] (got {list(edge_index.shape)})")
        if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
            raise DataError(f"'edge_index' expects integers (got {edge_index.dtype})")
        row, col = edge_index[0].long(), edge_index[1].long()
        num_rows = _check_ids("num_rows", row, num_rows)
        num_cols = _check_ids("num_cols", col, num_cols)
        if values is not None:
            check_tensor("values", values, (row.numel(),), edge_index.device, "the edges")
        structure = Structure.from_pairs(row, col, num_rows, num_cols)
        return cls(structure, None if values is None else values[structure.order])

    @classmethod
    def from_matrix(cls, matrix: Any) -> Adjacency:
        """Compiles a sparse matrix of another library, rows staying rows; explicit zeros are kept.

        Gradients flow to the values of a torch tensor that requires them; its duplicate entries are added up first.

        Args:
            matrix: A sparse torch tensor (COO, CSR or CSC), a ``torch_sparse.SparseTensor``, or a SciPy matrix.

        Raises:
            DataError: If it is none of these, has not two dimensions, or holds anything but real numbers.
        """
        num_rows, num_cols, row, col, values = _triplets(matrix)
        if values is not None and values.is_complex():
            raise DataError(f"'matrix' expects real numbers (got {values.dtype})")
        if values is not None and not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        return cls.from_edge_index(torch.stack([row, col]), num_rows=num_rows, num_cols=num_cols, values=values)

    @property
    def rowptr(self) -> Tensor:
        """``[num_rows + 1]`` row pointers."""
        return self.structure.rowptr

    @property
    def col(self) -> Tensor:
        """``[num_edges]`` column of every edge."""
        return self.structure.col

    @property
    def row(self) -> Tensor:
        """``[num_edges]`` row of every edge."""
        return self.structure.row

    @property
    def order(self) -> Tensor:
        """``[num_edges]`` position of every edge in the list that the matrix was built from."""
        return self.structure.order

    @property
    def permutation(self) -> Tensor:
        """``[num_edges]`` for every edge of the transpose, its position in this matrix's edge order."""
        return self.structure.permutation

    @property
    def long_pointers(self) -> tuple[Tensor, Tensor]:
        """``rowptr`` and ``col`` as int64, for engines that know no other."""
        return self.structure.long_pointers

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.structure.num_rows

    @property
    def num_cols(self) -> int:
        """Number of columns."""
        return self.structure.num_cols

    @property
    def num_edges(self) -> int:
        """Number of stored edges."""
        return self.structure.num_edges

    @property
    def shape(self) -> tuple[int, int]:
        """``(num_rows, num_cols)``."""
        return self.num_rows, self.num_cols

    @property
    def device(self) -> torch.device:
        """Where the arrays live."""
        return self.col.device

    def t(self) -> Adjacency:
        """The transpose; it shares this matrix's arrays, and its own transpose is this matrix."""
        known = self._transpose
        if known is not None and self._version == _version(self.value) and not (_learned(self) and not _learned(known)):
            return known
        twin = Adjacency(self.structure.t(), None if self.value is None else self.value[self.permutation])
        twin._transpose, twin._version = self, _version(twin.value)
        self._version = _version(self.value)
        # Learned values reordered where gradients are off must not be met again where they are on.
        if not _learned(self):
            self._transpose = twin
        return twin

    def with_value(self, value: Tensor | None) -> Adjacency:
        """The same structure with other edge values, given in this matrix's edge order.

        Args:
            value: ``[num_edges]``, or :obj:`None` for ones.
        """
        if value is not None:
            check_tensor("value", value, (self.num_edges,), self.device, self)
        return Adjacency(self.structure, value)

    def unweighted(self) -> Adjacency:
        """The same structure, every edge counting as much as it was selected: 1 each."""
        return self.with_value(None)

    def select(self, keep: Tensor) -> Adjacency:
        """The matrix of the edges that are kept, with their values as they are; nothing is sorted again.

        Args:
            keep: ``[num_edges]`` boolean, in this matrix's edge order.

        Raises:
            DataError: If `keep` is anything else.
        """
        if not isinstance(keep, Tensor):
            raise DataError(f"'keep' expects a tensor (got {type(keep).__name__})")
        if keep.dtype != torch.bool or keep.shape != (self.num_edges,) or keep.device != self.device:
            raise DataError(
                f"'keep' expects [{self.num_edges}] booleans on {self.device} "
                f"(got {list(keep.shape)} of {keep.dtype} on {keep.device})"
            )
        return Adjacency(self.structure.select(keep), None if self.value is None else self.value[keep])

    def bipartite(self) -> Adjacency:
        r"""The square matrix :math:`\begin{pmatrix} 0 & A \\ A^\top & 0 \end{pmatrix}` over rows, then columns.

        Its edges are those of this matrix, then those of the transpose; nothing is sorted again.
        """
        value = None if self.value is None else torch.cat([self.value, self.value[self.permutation]])
        return Adjacency(self.structure.bipartite(), value)

    def with_self_loops(self, value: float = 1.0) -> Adjacency:
        """A square matrix with an edge from every node to itself added (to those that are there already, too)."""
        if self.num_rows != self.num_cols:
            raise DataError(f"self loops expect a square matrix (got {self})")
        node = torch.arange(self.num_rows, device=self.device)
        edge_index = torch.cat([self.edge_index(), torch.stack([node, node])], dim=1)
        values = self._stored_values()
        values = torch.cat([values, values.new_full((self.num_rows,), value)])
        return Adjacency.from_edge_index(edge_index, num_rows=self.num_rows, num_cols=self.num_cols, values=values)

    @staticmethod
    def sum(matrices: Sequence[Adjacency]) -> Adjacency:
        """The sum of matrices of one shape; entries that they share stay side by side. Gradients flow to all values."""
        kinds = {(matrix.shape, matrix.device.type) for matrix in matrices}
        if len(kinds) != 1:
            raise DataError(f"'matrices' expects one or more of one shape on one device (got {sorted(kinds)})")
        (((num_rows, num_cols), _),) = kinds
        return Adjacency.from_edge_index(
            torch.cat([matrix.edge_index() for matrix in matrices], dim=1),
            num_rows=num_rows,
            num_cols=num_cols,
            values=torch.cat([matrix._stored_values() for matrix in matrices]),
        )

    def values(self, dtype: torch.dtype | None = None) -> Tensor:
        """``[num_edges]`` edge values, ones where none are stored (default: in their own type, float32 at least)."""
        if self.value is None:
            return torch.ones(self.num_edges, dtype=dtype or torch.float32, device=self.device)
        return self.value.to(dtype or torch.promote_types(self.value.dtype, torch.float32))

    def _stored_values(self) -> Tensor:
        """:meth:`values` in the type that they are stored in."""
        return self.values(torch.float32 if self.value is None else self.value.dtype)

    def degree(self) -> Tensor:
        """``[num_rows]`` number of stored edges of every row (int64)."""
        return self.rowptr.diff().long()

    def normalize(self, how: Normalization) -> Adjacency:
        r"""Normalised edge values from row sums :math:`r` and column sums :math:`c` of the values.

        ``"sym"``: :math:`r_i^{-1/2} a_{ij} c_j^{-1/2}`; ``"row"``: :math:`a_{ij} / r_i`, the mean over neighbours and
        the transition matrix of a random walk; ``"col"``: :math:`a_{ij} / c_j`; ``"gcn"``, for square matrices:
        :math:`r_i^{-1/2} a_{ij} r_j^{-1/2}`, what PyG does, equal to ``"sym"`` where the matrix is symmetric. Sums that
        are not positive give 0. Gradients flow to the values, through the sums as well.
        """
        if how not in ("sym", "row", "col", "gcn"):
            raise ConfigError(f"'how' expects 'sym', 'row', 'col' or 'gcn' (got '{how}')")
        if how == "gcn" and self.num_rows != self.num_cols:
            raise DataError(f"normalisation 'gcn' expects a square matrix (got {self})")
        dtype = torch.float32 if self.value is None else self.value.dtype
        # Sums of many halves lose digits.
        value = self.values(torch.promote_types(dtype, torch.float32))
        row_sum = value.new_zeros(self.num_rows).index_add(0, self.row, value)
        if how == "row":
            return self.with_value((value * _power(row_sum, -1.0)[self.row]).to(dtype))
        col_sum = row_sum if how == "gcn" else value.new_zeros(self.num_cols).index_add(0, self.col, value)
        if how == "col":
            return self.with_value((value * _power(col_sum, -1.0)[self.col]).to(dtype))
        return self.with_value((value * _power(row_sum, -0.5)[self.row] * _power(col_sum, -0.5)[self.col]).to(dtype))

    def to(self, device: torch.device | str) -> Adjacency:
        """The same matrix on another device (itself where it is there already)."""
        if is_on(self.device, device):
            return self
        device = torch.device(device)
        return Adjacency(self.structure.to(device), None if self.value is None else self.value.to(device))

    def edge_index(self) -> Tensor:
        """``[2, num_edges]`` int64 rows and columns, in this matrix's edge order."""
        return torch.stack([self.row.long(), self.col.long()])

    def to_dense(self) -> Tensor:
        """``[num_rows, num_cols]``; for tests and tiny graphs."""
        value = self._stored_values()
        dense = torch.zeros(self.num_rows * self.num_cols, dtype=value.dtype, device=self.device)
        return dense.index_add(0, self.row.long() * self.num_cols + self.col.long(), value).view(*self.shape)

    def __repr__(self) -> str:
        weighted = "" if self.value is None else ", weighted"
        return f"{type(self).__name__}({self.num_rows} x {self.num_cols}, num_edges={self.num_edges}{weighted})"


def _triplets(matrix: Any) -> tuple[int, int, Tensor, Tensor, Tensor | None]:
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        if matrix.layout not in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc) or matrix.dim() != 2:
            raise DataError(f"'matrix' expects two dimensions in COO, CSR or CSC layout (got {_kind(matrix)})")
        coo = matrix.to_sparse_coo()
        if matrix.requires_grad:
            # Without coalescing, torch hands out values that no gradient flows through.
            coo = coo.coalesce()
            row, col = coo.indices()
            return matrix.size(0), matrix.size(1), row, col, coo.values()
        # Not coalesced: duplicates would be summed.
        row, col = coo._indices()
        return matrix.size(0), matrix.size(1), row, col, coo._values()
    if hasattr(matrix, "sparse_sizes") and hasattr(matrix, "coo"):
        row, col, values = matrix.coo()
        return matrix.size(0), matrix.size(1), row, col, values
    if hasattr(matrix, "tocoo"):
        coo = matrix.tocoo()
        if len(coo.shape) != 2:
            raise DataError(f"'matrix' expects two dimensions (got shape {list(coo.shape)})")
        try:
            row, col, values = (torch.from_numpy(array.copy()) for array in (coo.row, coo.col, coo.data))
        except TypeError as error:
            raise DataError(f"'matrix' expects numbers of a type that torch knows (got {coo.dtype})") from error
        return coo.shape[0], coo.shape[1], row.long(), col.long(), values
    raise DataError(
        f"'matrix' expects a sparse torch tensor, a torch_sparse.SparseTensor or a SciPy matrix (got {_kind(matrix)}); "
        f"Adjacency.from_edge_index takes lists of edges"
    )


def _kind(value: Any) -> str:
    return f"a tensor of layout {value.layout}" if isinstance(value, Tensor) else type(value).__name__


def _learned(matrix: Adjacency) -> bool:
    return matrix.value is not None and matrix.value.requires_grad


def _version(value: Tensor | None) -> int | None:
    return None if value is None else value._version


def _power(total: Tensor, exponent: float) -> Tensor:
    # A learned graph may have rows that sum to zero or less; they send and receive nothing rather than NaN.
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return torch.where(total > 0, safe.pow(exponent), torch.zeros_like(total))


def _check_ids(name: str, ids: Tensor, size: int | None) -> int:
    if size is not None and (not is_whole(size) or size < 0):
        raise DataError(f"'{name}' expects a whole number >= 0 (got {size!r})")
    size = None if size is None else int(size)
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
