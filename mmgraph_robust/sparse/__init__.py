"""Sparse kernels: a compiled adjacency, the differentiable operators on it, and graphs of nearest neighbours."""

from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.cooccurrence import cooccurrence_graph
from mmgraph_robust.sparse.edge_sampling import degree_weights, sample_edges
from mmgraph_robust.sparse.engines import ENGINES, choose_engine
from mmgraph_robust.sparse.knn import cosine_graph, edge_cosine, knn_graph, knn_search
from mmgraph_robust.sparse.ops import attention_product, edge_softmax, sddmm, segment_reduce, spmm
from mmgraph_robust.sparse.soft_graph import SoftGraph, soft_topk

__all__ = [
    "ENGINES",
    "Adjacency",
    "SoftGraph",
    "attention_product",
    "choose_engine",
    "cooccurrence_graph",
    "cosine_graph",
    "degree_weights",
    "edge_cosine",
    "edge_softmax",
    "knn_graph",
    "knn_search",
    "sample_edges",
    "sddmm",
    "segment_reduce",
    "soft_topk",
    "spmm",
]
