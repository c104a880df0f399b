"""The cases, by operation."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.speed.case import Case, Settings
from benchmarks.speed.cases import edges, item_graphs, models, products, structures

OPERATIONS: dict[str, Callable[[Settings], list[Case]]] = {
    "spmm": products.spmm_cases,
    "sddmm": products.sddmm_cases,
    "segment": edges.segment_cases,
    "softmax": edges.softmax_cases,
    "attention": edges.attention_cases,
    "knn": item_graphs.knn_cases,
    "lattice": item_graphs.lattice_cases,
    "sampling": structures.sampling_cases,
    "compile": structures.compile_cases,
    "step": models.step_cases,
    "evaluation": models.evaluation_cases,
}
TITLES = {
    "spmm": "Sparse times dense (`spmm`), 64 columns",
    "sddmm": "Dot products on the edges (`sddmm`), 64 columns",
    "segment": "Reductions over a row's edges (`segment_reduce`)",
    "softmax": "Softmax over a row's edges (`edge_softmax`)",
    "attention": "Dot-product attention (`sddmm`, then `attention_product`), 64 columns",
    "knn": "Nearest neighbours by cosine (`knn_graph`), k = 10",
    "lattice": "Refresh of LATTICE's item graph (`LatentItemGraph`), with one product by 64 columns",
    "sampling": "Edge dropping (`sample_edges`), a fifth stays",
    "compile": "Compiling a shuffled edge list (`Adjacency.from_edge_index`)",
    "step": "One training step: forward, loss, backward, Adam; 2,048 triples, 64 dimensions",
    "evaluation": "Full ranking of every user with a held-out item, Recall and NDCG at 1 to 50, 64 dimensions",
}


def find(operation: str, name: str, settings: Settings) -> Case:
    """The case of a name."""
    return next(case for case in OPERATIONS[operation](settings) if case.name == name)
