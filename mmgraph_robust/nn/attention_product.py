"""Dot-product attention over the edges of a graph."""

from __future__ import annotations

from torch import Tensor

from mmgraph_robust.sparse import Adjacency, edge_softmax, spmm


def attention_product(adj: Adjacency, dots: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Aggregates with softmax weights: :math:`y_i = \sum_j \alpha_{ij} x_j`, :math:`\alpha_i = softmax_j(e_{ij})`.

    Args:
        adj: The graph; rows receive.
        dots: ``[num_edges]`` logits :math:`e_{ij}`, as :func:`~mmgraph_robust.sparse.sddmm` gives them.
        x: ``[num_cols, dim]`` what the columns send.

    Shapes:
        - **output:** ``[num_rows, dim]`` and the weights ``[num_edges]``
    """
    weight = edge_softmax(adj, dots)
    return spmm(adj, x, weight), weight
