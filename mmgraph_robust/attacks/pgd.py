"""Projected gradient ascent."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
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
        objective: What is maximised, one of :data:`OBJECTIVES`.
    """

    def __init__(
        self, steps: int = 20, restarts: int = 1, step_size: float | None = None, objective: str = "recall"
    ) -> None:
        self._check_counts(steps=steps, restarts=restarts)
        self._check(step_size=(step_size is None or step_size > 0, "> 0", step_size))
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met."""
        size = step_share(self.steps, self.step_size)
        # Whoever finds nothing better does nothing.
        best, best_value = problem.zero(), problem.value(problem.zero(), exact=True)
        bar = tqdm(
            total=self.steps * self.restarts, desc=type(self).__name__, unit="step", disable=not progress, leave=False
        )
        with bar:
            for start in problem.starts(self.restarts, generator):
                found = self._ascend(problem, start, size, bar)
                value = problem.value(found, exact=True)
                if value > best_value:
                    best, best_value = found, value
        return best

    def _ascend(self, problem: Problem, delta: Features, size: float, bar: tqdm[None]) -> Features:
        best, best_value, memory = delta, -float("inf"), problem.zero()
        for _ in range(self.steps):
            value, gradient = problem.value_and_gradient(delta)
            if value > best_value:
                best, best_value = delta, value
            memory = self.direction(problem, gradient, memory)
            step = problem.steepest(memory)
            # Earlier gradients may cancel one that is not zero.
            if problem.stuck(step) and problem.stuck(problem.steepest(gradient)):
                break
            delta = problem.project({m: d + size * step[m] for m, d in delta.items()})
            bar.update()
        return delta if problem.value(delta) > best_value else best

    def direction(self, problem: Problem, gradient: Features, memory: Features) -> Features:
        """Where the next step goes: the gradient.

        Args:
            problem: The problem.
            gradient: The gradient now.
            memory: What this method returned before, zeros at first.
        """
        return gradient


def step_share(steps: int, step_size: float | None) -> float:
    """The size of a step as a part of the budget: by default such that the steps reach all of it from anywhere."""
    return 2.5 / steps if step_size is None else step_size
