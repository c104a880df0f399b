"""Sparse kernels: a compiled adjacency and the differentiable operators on it."""

from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.ops import edge_softmax, sddmm, segment_reduce, spmm

__all__ = ["Adjacency", "edge_softmax", "sddmm", "segment_reduce", "spmm"]
