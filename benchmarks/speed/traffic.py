"""Bytes that the sparse operators move, counted from their inputs and outputs (float32, indices as stored)."""

from __future__ import annotations

from benchmarks.speed.case import Traffic
from mmgraph_robust.sparse import Adjacency

_FLOAT = 4


def matmul(adj: Adjacency, dim: int) -> Traffic:
    """``A @ x``: pointers, columns and values; the rows of `x` that have edges; the result."""
    base = _pattern(adj) + _FLOAT * adj.num_edges + _FLOAT * dim * adj.num_rows
    return Traffic(base + _FLOAT * dim * _met(adj.t()), base + _FLOAT * dim * adj.num_edges)


def dot(adj: Adjacency, dim: int) -> Traffic:
    """Edge dots: the pattern, both sides (the left one streams row by row), one number per edge."""
    base = _pattern(adj) + _FLOAT * adj.num_edges + _FLOAT * dim * _met(adj)
    return Traffic(base + _FLOAT * dim * _met(adj.t()), base + _FLOAT * dim * adj.num_edges)


def segment(adj: Adjacency, dim: int) -> Traffic:
    """Reductions over a row's edges, which lie side by side: nothing is gathered."""
    total = adj.rowptr.nbytes + _FLOAT * dim * (adj.num_edges + adj.num_rows)
    return Traffic(total, total)


def _pattern(adj: Adjacency) -> int:
    return adj.rowptr.nbytes + adj.col.nbytes


def _met(adj: Adjacency) -> int:
    return int((adj.degree() > 0).sum())
