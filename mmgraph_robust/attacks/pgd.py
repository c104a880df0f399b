"""Projected gradient ascent."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack, Problem
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.typing import Features


class PGD(Attack):
    r"""Projected gradient ascent of `"Towards Deep Learning Models Resistant to Adversarial Attacks"
    <https://arxiv.org/abs/1706.06083>`_ (Madry et al., ICLR 2018) on item features:
    :math:`\delta \leftarrow \Pi\big(\delta + \alpha\, \mathrm{steepest}(\nabla_\delta)\big)`.

    The best perturbation of all steps and restarts is kept, so another restart never does worse. The first start is
    the clean point, later ones are random.

    Args:
        steps: Number of steps.
        restarts: Number of starts.
        step_size: Size of a step as a part of the budget (default: ``2.5 / steps``).
        objective: What is maximised: ``"boundary"``, ``"margin"`` or ``"bpr"``.
    """

    def __init__(
        self, steps: int = 20, restarts: int = 1, step_size: float | None = None, objective: str = "boundary"
    ) -> None:
        for name, value in (("steps", steps), ("restarts", restarts)):
            if value < 1:
                raise ConfigError(f"'{type(self).__name__}' expects {name} >= 1 (got {value})")
        if step_size is not None and not step_size > 0:
            raise ConfigError(f"'{type(self).__name__}' expects step_size > 0 (got {step_size})")
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met."""
        size = 2.5 / self.steps if self.step_size is None else self.step_size
        best, best_value = problem.zero(), -float("inf")
        bar = tqdm(total=self.steps * self.restarts, desc="PGD", disable=not progress, leave=False)
        for restart in range(self.restarts):
            delta = problem.zero() if restart == 0 else problem.project(problem.random(generator))
            for _ in range(self.steps):
                value, gradient = problem.value_and_gradient(delta)
                if value > best_value:
                    best, best_value = delta, value
                step = problem.steepest(gradient)
                delta = problem.project({m: d + size * step[m] for m, d in delta.items()})
                bar.update()
            value = problem.value(delta)
            if value > best_value:
                best, best_value = delta, value
        bar.close()
        return best
