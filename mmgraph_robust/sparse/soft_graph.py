"""Graphs of nearest neighbours whose choice of neighbours carries gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.knn import edge_cosine
from mmgraph_robust.sparse.structure import Structure
from mmgraph_robust.utils import is_on


class SoftGraph(Adjacency):
    r"""A graph of nearest neighbours that also holds candidates: every edge has a cosine and a selection weight.

    Its values are their product. With weights of 1 on the `k` nearest and 0 on the others it computes what
    :func:`~mmgraph_robust.sparse.knn_graph` computes, while gradients reach the weights of both, so a model that reads
    it unchanged tells what each neighbour that it does not have would do to the score.

    What :meth:`~mmgraph_robust.sparse.Adjacency.with_value`, :meth:`~mmgraph_robust.sparse.Adjacency.select` and the
    other methods that change values or edges return is a plain adjacency, which holds products and no selection.

    Args:
        structure: Where the edges are.
        cosine: ``[num_edges]`` cosines, in the order of the edges.
        selection: ``[num_edges]`` weights from 0 to 1, in the order of the edges.
    """

    def __init__(self, structure: Structure, cosine: Tensor, selection: Tensor) -> None:
        super().__init__(structure, cosine * selection)
        self.cosine = cosine
        self.selection = selection

    @classmethod
    def from_candidates(cls, neighbour: Tensor, selection: Tensor, x: Tensor) -> SoftGraph:
        """The graph of the candidates of every row.

        Args:
            neighbour: ``[num_nodes, m]`` candidates, different within a row.
            selection: ``[num_nodes, m]`` their weights.
            x: ``[num_nodes, dim]`` what their cosines are taken of; gradients flow to it.
        """
        num_nodes, width = neighbour.shape
        row = torch.arange(num_nodes, device=neighbour.device).repeat_interleave(width)
        adjacency = Adjacency.from_edge_index(
            torch.stack([row, neighbour.flatten()]), num_rows=num_nodes, num_cols=num_nodes
        )
        return cls(adjacency.structure, edge_cosine(adjacency, x), selection.flatten()[adjacency.order])

    def unweighted(self) -> Adjacency:
        """The selection weights alone."""
        return Adjacency(self.structure, self.selection)

    def to(self, device: torch.device | str) -> Adjacency:
        """The same graph on another device (itself where it is there already)."""
        if is_on(self.device, device):
            return self
        device = torch.device(device)
        return SoftGraph(self.structure.to(device), self.cosine.to(device), self.selection.to(device))


def soft_topk(score: Tensor, k: int, temperature: Tensor | float) -> Tensor:
    r"""How much each entry of a row belongs to its `k` largest, between 0 and 1 and `k` in sum:
    :math:`p_j = \sigma\big((s_j - t) / \tau\big)` with :math:`t` such that :math:`\sum_j p_j = k`.

    Entries near the boundary carry the gradient; a softmax would give it to the largest, which no swap concerns.

    Args:
        score: ``[n, m]``
        k: How many, below `m`.
        temperature: Softness :math:`\tau`, a number or ``[n, 1]``; towards 0 it is the hard choice.

    Shapes:
        - **output:** ``[n, m]``, with gradients to `score` through the boundary too
    """
    with torch.no_grad():
        margin = 40 * torch.as_tensor(temperature, dtype=score.dtype, device=score.device)
        low, high = score.amin(1, keepdim=True) - margin, score.amax(1, keepdim=True) + margin
        for _ in range(60):
            middle = (low + high) / 2
            more = torch.sigmoid((score - middle) / temperature).sum(1, keepdim=True) > k
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        boundary = (low + high) / 2
        share = torch.sigmoid((score - boundary) / temperature)
        slope = share * (1 - share)
        slope = slope / slope.sum(1, keepdim=True).clamp(min=torch.finfo(score.dtype).tiny)
    # The boundary follows the scores by the implicit function theorem; its value stays.
    boundary = boundary + (slope * (score - score.detach())).sum(1, keepdim=True)
    return torch.sigmoid((score - boundary) / temperature)
