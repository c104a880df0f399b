"""The smallest change that moves an item."""

from __future__ import annotations

from typing import ClassVar

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.item_graph import GraphRelaxation
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features


class MinimalBudget(Attack):
    r"""For each (user, item) pair that is not yet where the attacker wants it, an upper bound on the smallest budget
    that moves it there: that drops a hit out of its user's list, or brings a promoted item in.

    Budgets :math:`\rho\, 2^{-r}` are tried with :class:`GraphRelaxation` (:class:`PGD` where there is no graph of
    items), each perturbation is then scaled down, and for every pair the smallest budget is kept at which it had moved,
    in the spirit of the minimal perturbations of `"Towards Evaluating the Robustness of Neural Networks"
    <https://arxiv.org/abs/1608.04644>`_ (Carlini and Wagner, S&P 2017).
    All pairs are attacked at once, so one pair alone may need less.

    ``details["pairs"]`` ``[2, h]`` are the pairs, ``details["budget"]`` ``[h]`` their budgets, in the unit of the
    threat model's, infinite where even the whole budget was not enough. The perturbation is the smallest that was seen
    to move half of all pairs that the whole budget moves.

    Args:
        rounds: Number of budgets.
        steps: Gradient steps at each.
        scales: Number of scales at which each perturbation is looked at.
        objective: What is maximised, one of :data:`OBJECTIVES`.
    """

    kind: ClassVar[Kind] = "minimal"

    def __init__(self, rounds: int = 6, steps: int = 15, scales: int = 4, objective: str = "recall") -> None:
        self._check_counts(rounds=rounds, steps=steps, scales=scales)
        self.rounds = rounds
        self.steps = steps
        self.scales = scales
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Finds the budgets of all pairs."""
        listed = problem.listed(problem.embeddings(problem.zero()))
        open_pairs = listed != problem.objective.promote
        least = torch.full(listed.shape, float("inf"), dtype=torch.double, device=listed.device)
        # The smallest change that moves half of what the whole budget moves.
        enough, least_size, smallest = 0, float("inf"), problem.zero()
        for index in tqdm(range(self.rounds), desc="MinimalBudget", unit="budget", disable=not progress, leave=False):
            part = 0.5**index
            sub = problem.within(part)
            found = sub.project(GraphRelaxation(self.steps, objective=self.objective).run(sub, generator, False))
            problem.blind = sub.blind
            moved_at_all = 0
            # Not down to half of it: the next budget looks there with a search of its own.
            for scale in range(self.scales):
                size = 1 - scale / (2 * self.scales)
                delta = {m: size * d for m, d in found.items()}
                moved = open_pairs & (problem.listed(problem.embeddings(delta)) == problem.objective.promote)
                least[moved] = least[moved].clamp(max=part * size)
                count = int(moved.sum())
                moved_at_all += count
                if index == scale == 0:
                    enough, smallest = max(1, (count + 1) // 2), delta
                if count >= enough and part * size < least_size:
                    least_size, smallest = part * size, delta
            if moved_at_all == 0:
                break
        problem.details["pairs"] = problem.objective.pairs[:, open_pairs]
        problem.details["budget"] = problem.threat.budget * least[open_pairs]
        return smallest
