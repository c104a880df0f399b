"""Random search."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features

# After which parts of all queries the share is halved, as published for ten thousand queries.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


class Square(Attack):
    """Random search in the manner of `"Square Attack: a Query-efficient Black-box Adversarial Attack via Random Search"
    <https://arxiv.org/abs/1912.00049>`_ (Andriushchenko et al., ECCV 2020): each query moves a block of some items and
    neighbouring columns to a random corner of the budget, and is kept if the objective rose.

    It needs no gradient, so a hidden one does not stop it.

    Args:
        queries: Number of queries, unless the threat model allows fewer.
        share: Share of the entries that the first blocks cover; it shrinks by the published schedule.
        objective: What is maximised; under ``knowledge="ranks"`` it is the discounted gain of the lists.

    Source: the paper's search and schedule; the block is one of items times columns, since features are no image. Where
    one budget binds the whole matrix, a block spends what it had and what is left over, in a random direction.
    """

    kind: ClassVar[Kind] = "black box"

    def __init__(self, queries: int = 300, share: float = 0.5, objective: str = "recall") -> None:
        self._check_counts(queries=queries)
        self._check(share=(0 < share <= 1, "above 0 and at most 1", share))
        self.queries = queries
        self.share = share
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met within the queries."""
        left = self.queries if problem.queries_left is None else min(self.queries, problem.queries_left)
        best = problem.project(problem.random(generator))
        best_value = problem.value(best)
        owned = problem.allowed.flatten().nonzero().flatten()
        for index in tqdm(range(1, left), desc="Square", unit="query", disable=not progress, leave=False):
            part = self.share / 2 ** sum(index >= mark * left for mark in _HALVINGS)
            trial = dict(best)
            for name in problem.threat.modalities:
                trial[name] = self._moved(problem, name, best[name], owned, part, generator)
            trial = problem.project(trial)
            value = problem.value(trial)
            if value > best_value:
                best, best_value = trial, value
        problem.details["queries"] = problem.queries
        return best

    def _moved(
        self, problem: Problem, name: str, delta: Tensor, owned: Tensor, part: float, generator: torch.Generator
    ) -> Tensor:
        draw = problem.normal(name, generator)
        dim = draw.size(1)
        rows = max(1, round(part**0.5 * owned.numel()))
        width = max(1, round(part**0.5 * dim))
        start = int(torch.randint(dim - width + 1, (1,), generator=generator))
        chosen = owned[torch.randperm(owned.numel(), generator=generator)[:rows].to(owned.device)]
        block = torch.zeros_like(draw)
        block[chosen, start : start + width] = draw[chosen, start : start + width]
        threat, radius = problem.threat, problem.radii[name]
        if threat.scope == "item" or threat.norm == "linf":
            # Every row, or every entry, has a budget of its own, which the block takes all of.
            return delta + 2 * threat.steepest(block) * radius
        # One budget for all: the block spends its part anew, with what is left over, and the rest stays.
        order = norms.ORDER[threat.norm]
        rest = delta.masked_fill(block.bool(), 0.0)
        spent = norms.size(rest, threat.norm, True)
        free = (radius.double() ** order - spent**order).clamp(min=0).pow(1 / order).to(delta)
        return rest + block * (free / norms.size(block, threat.norm, True).clamp(min=1e-12).to(delta))
