"""Gradients through the discrete choice of an item graph's neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.sparse import Adjacency, SoftGraph, knn_search, soft_topk
from mmgraph_robust.typing import Features


@dataclass(frozen=True)
class Candidates:
    """The neighbours of every item and those that stand next in line.

    Attributes:
        cosine: ``[num_items, m]``, descending but for the item itself, which comes first.
        neighbour: ``[num_items, m]`` items.
        k: How many of them are neighbours.
    """

    cosine: Tensor
    neighbour: Tensor
    k: int

    @classmethod
    def of(cls, x: Tensor, k: int, more: int) -> Candidates:
        """The `k` nearest items of each and `more` that come after them, as the model's own search finds them."""
        k = min(k, x.size(0))
        cosine, neighbour = knn_search(x, min(k + more, x.size(0)))
        return cls(cosine, neighbour, k)

    @property
    def open(self) -> bool:
        """Whether there is a choice: neighbours beside the item itself, and items beside the neighbours."""
        return 1 < self.k < self.neighbour.size(1)

    def chosen(self) -> Tensor:
        """``[num_items, m]`` one for neighbours, zero for the others."""
        selection = torch.zeros_like(self.cosine)
        selection[:, : self.k] = 1
        return selection


class GraphProblem(Problem):
    r"""A :class:`~mmgraph_robust.attacks.Problem` whose gradients pass through the choice of neighbours.

    In every gradient the true graph of the perturbed features is built, with the next candidates beside the neighbours.
    The forward pass computes with weights 1 and 0, which is the model's own score; backwards the weights are those of a
    soft choice (:func:`~mmgraph_robust.sparse.soft_topk` of the cosines), a straight-through estimate:
    :math:`a = [\,j \le k\,] + p - \mathrm{stopgrad}(p)`. That holds for every search of the forward pass, among
    features or among learned projections of them (LATTICE). A frozen graph stays what it is.

    Args:
        problem: The search space.
        candidates: How many next items stand beside an item's neighbours.
        temperature: First and last softness, in units of the spread of a row's candidates.
        steps: Number of gradients after which the softness has fallen from the first to the last, and starts anew.
    """

    def __init__(
        self, problem: Problem, candidates: int = 10, temperature: tuple[float, float] = (1.0, 0.1), steps: int = 20
    ) -> None:
        vars(self).update(vars(problem))
        self.candidates = candidates
        self.temperature = temperature
        self.steps = steps
        self.calls = 0
        self.searched = False

    def route(self, features: Features) -> Graph:
        """The graph, in which whatever neighbours the forward pass searches are soft."""
        first, last = self.temperature
        done = (self.calls % self.steps) / max(self.steps - 1, 1)
        softness = first * (last / first) ** done
        return self.graph.with_search(lambda x, k: self._soft(x, k, softness))

    def value_and_gradient(self, delta: Features) -> tuple[float, Features]:
        """As of any problem; the next gradient is less soft."""
        result = super().value_and_gradient(delta)
        self.calls += 1
        return result

    @property
    def repeats(self) -> bool:
        """Not where neighbours are searched: their softness changes from one gradient to the next."""
        return super().repeats and not self.searched

    def _soft(self, x: Tensor, k: int, softness: float) -> Adjacency:
        self.searched = True
        near = Candidates.of(x.detach(), k, self.candidates)
        chosen = near.chosen()
        graph = SoftGraph.from_candidates(near.neighbour, chosen, x)
        if not near.open:
            return graph
        cosine = graph.cosine[torch.argsort(graph.order)].view_as(chosen)[:, 1:]
        spread = near.cosine[:, 1:].std(1, keepdim=True).clamp(min=1e-6)
        share = soft_topk(cosine, near.k - 1, softness * spread)
        # The item itself is always its own first neighbour.
        selection = torch.cat([chosen[:, :1], chosen[:, 1:] + share - share.detach()], 1)
        return SoftGraph(graph.structure, graph.cosine, selection.flatten()[graph.order])


class GraphRelaxation(Attack):
    r"""Projected gradient ascent through the item graph, whose plain gradient is zero or a part of the truth.

    It is :class:`~mmgraph_robust.attacks.PGD` on :class:`GraphProblem`: every step rebuilds the true graph, and the
    perturbation with the best true objective is kept. For models that search no neighbours, or whose threat model
    freezes all that they read, it is PGD itself.

    Args:
        steps: Number of steps.
        restarts: Number of starts.
        step_size: Size of a step as a part of the budget (default: ``2.5 / steps``).
        objective: What is maximised.
        candidates: How many next items stand beside an item's neighbours; memory grows with it.
        temperature: First and last softness of the choice, in units of the spread of a row's candidates.
    """

    def __init__(
        self,
        steps: int = 20,
        restarts: int = 1,
        step_size: float | None = None,
        objective: str = "recall",
        candidates: int = 10,
        temperature: tuple[float, float] = (1.0, 0.1),
    ) -> None:
        self._check_counts(candidates=candidates)
        falls = 0 < temperature[1] <= temperature[0]
        self._check(temperature=(falls, "from a positive number to a smaller one", temperature))
        PGD(steps, restarts, step_size, objective)  # Its checks.
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.objective = check_objective(objective)
        self.candidates = candidates
        self.temperature = tuple(temperature)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met."""
        first, last = self.temperature
        relaxed = GraphProblem(problem, self.candidates, (first, last), self.steps)
        found = PGD(self.steps, self.restarts, self.step_size, self.objective).run(relaxed, generator, progress)
        problem.blind = relaxed.blind
        return found


def searches(problem: Problem) -> bool:
    """Whether the model's forward pass searches neighbours: a graph that is rebuilt, or one that the model learned."""
    asked = []

    def search(x: Tensor, k: int) -> Adjacency:
        asked.append(k)
        return problem.graph.search(x, k)

    with torch.no_grad():
        problem.model(problem.features, problem.graph.with_search(search))
    return bool(asked)


def rebuilt_modalities(problem: Problem) -> list[str]:
    """The attacked modalities whose graph follows their features."""
    model, threat = problem.model, problem.threat
    if model.knn_k is None or threat.graph == "frozen":
        return []
    return [m for m in threat.modalities if m in model.modalities]
