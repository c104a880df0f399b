"""Gradients estimated from answers alone."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features

# Queries of one step of one pair, and that of the clean point.
_LEAST = 4


class SPSA(Attack):
    r"""Ascent along a gradient estimated from queries,

    .. math::
        \hat g = \sum_{s=1}^{S} \big( f(\delta + \sigma v_s) - f(\delta - \sigma v_s) \big)\, v_s

    with random signs :math:`v` as in `"Adversarial Risk and the Dangers of Evaluating Against Weak Attacks"
    <https://arxiv.org/abs/1802.05666>`_ (Uesato et al., ICML 2018), or with Gaussian :math:`v` as in `"Black-box
    Adversarial Attacks with Limited Queries and Information" <https://arxiv.org/abs/1804.08598>`_ (Ilyas et al., ICML
    2018; NES). Directions are scaled to the budget of each row. Where the gradient is hidden, this one is not.

    Args:
        queries: Number of queries, unless the threat model allows fewer.
        samples: Number :math:`S` of pairs of queries per step.
        sigma: Distance :math:`\sigma` of the queries, as a part of the budget.
        directions: ``"signs"`` (SPSA) or ``"normal"`` (NES).
        objective: What is maximised; under ``knowledge="ranks"`` it is the discounted gain of the lists.
    """

    kind: ClassVar[Kind] = "black box"

    def __init__(
        self,
        queries: int = 300,
        samples: int = 4,
        sigma: float = 0.5,
        directions: Literal["signs", "normal"] = "signs",
        objective: str = "recall",
    ) -> None:
        self._check_counts(queries=queries, samples=samples)
        self._check(
            sigma=(0 < sigma < float("inf"), "> 0 and finite", sigma),
            directions=(directions in ("signs", "normal"), "'signs' or 'normal'", directions),
        )
        self.queries = queries
        self.samples = samples
        self.sigma = sigma
        self.directions = directions
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met within the queries."""
        left = self.queries if problem.queries_left is None else min(self.queries, problem.queries_left)
        if left < _LEAST:
            # Too few for a single estimate: a random direction, as good as any.
            problem.details["queries"] = problem.queries
            return problem.random(generator)
        # One for the clean point: whoever finds nothing better does nothing.
        left -= 1
        samples = max(1, min(self.samples, (left - 1) // 2))
        steps = left // (2 * samples + 1)
        best, best_value, delta = problem.zero(), problem.value(problem.zero()), problem.zero()
        for index in tqdm(range(steps), desc="SPSA", unit="step", disable=not progress, leave=False):
            estimate = problem.zero()
            for _ in range(samples):
                move = self._move(problem, generator)
                up, down = (
                    problem.value(problem.project({m: d + sign * move[m] for m, d in delta.items()}))
                    for sign in (1, -1)
                )
                estimate = {m: e + (up - down) * move[m] for m, e in estimate.items()}
            step = problem.steepest(estimate)
            size = 1.0 / (1 + index) ** 0.5
            delta = problem.project({m: d + size * step[m] for m, d in delta.items()})
            value = problem.value(delta)
            if value > best_value:
                best, best_value = delta, value
        problem.details["queries"] = problem.queries
        return best

    def _move(self, problem: Problem, generator: torch.Generator) -> Features:
        draws = {m: problem.normal(m, generator) for m in problem.threat.modalities}
        # An l1 step goes into the largest entry; of signs alone that would be the same one in every draw.
        if self.directions == "signs" and problem.threat.norm != "l1":
            draws = {m: x.sign() for m, x in draws.items()}
        return {m: self.sigma * x for m, x in problem.steepest(draws).items()}
