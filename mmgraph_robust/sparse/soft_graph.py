"""Graphs of nearest neighbours whose choice of neighbours carries gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.sparse.knn import edge_cosine
from mmgraph_robust.sparse.structure import Structure
from mmgraph_robust.utils import is_on, is_whole


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
        score: ``[n, m]``, finite.
        k: How many, from 0 to `m`.
        temperature: Softness :math:`\tau`, a positive number or ``[n, 1]`` of them; towards 0 it is the hard choice.

    Shapes:
        - **output:** ``[n, m]``, with gradients of any order to `score` and `temperature`, through the boundary too

    Raises:
        DataError: If `score` is no matrix of floating point numbers.
        ConfigError: If `k` does not fit, or `temperature` is a number that is not positive. In a tensor it is not
            looked at.
    """
    check_tensor("score", score, ("n", "m"), score.device, "soft_topk")
    if not is_whole(k) or not 0 <= k <= score.size(1):
        raise ConfigError(f"'k' expects a whole number from 0 to {score.size(1)} (got {k})")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ConfigError(f"'temperature' expects a number > 0 (got {temperature})")
    boundary: Tensor = _Boundary.apply(score, k, temperature)
    return torch.sigmoid((score - boundary) / temperature)


class _Boundary(torch.autograd.Function):
    """The boundary :math:`t`, found by bisection; it follows scores and temperature by the implicit function theorem,
    in which it stands itself, so that the slope has the right slopes too."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, k: int, temperature: Tensor | float) -> Tensor:
        margin = 40 * torch.as_tensor(temperature, dtype=score.dtype, device=score.device)
        low, high = score.amin(1, keepdim=True) - margin, score.amax(1, keepdim=True) + margin
        for _ in range(60):
            middle = (low + high) / 2
            more = torch.sigmoid((score - middle) / temperature).sum(1, keepdim=True) > k
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        boundary = (low + high) / 2
        given = isinstance(temperature, Tensor)
        ctx.number = None if given else temperature
        ctx.save_for_backward(score, boundary, temperature if given else None)
        return boundary

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        score, boundary, temperature = ctx.saved_tensors
        temperature = ctx.number if temperature is None else temperature
        distance = (score - boundary) / temperature
        share = torch.sigmoid(distance)
        slope = share * (1 - share)
        slope = slope / slope.sum(1, keepdim=True).clamp(min=torch.finfo(score.dtype).tiny)
        grad_temperature = None
        if ctx.needs_input_grad[2]:
            grad_temperature = (-grad * (slope * distance).sum(1, keepdim=True)).sum_to_size(temperature.shape)
        return grad * slope, None, grad_temperature
