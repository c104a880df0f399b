"""Gradient ascent that finds its own step size."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features

_MOMENTUM = 0.75
_ENOUGH = 0.75


class APGD(Attack):
    r"""Auto-PGD of `"Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks"
    <https://arxiv.org/abs/2003.01690>`_ (Croce and Hein, ICML 2020) on item features.

    .. math::
        z = \Pi\big(\delta_k + \eta\, \mathrm{steepest}(\nabla)\big), \qquad
        \delta_{k+1} = \Pi\big(\delta_k + \tfrac34 (z - \delta_k) + \tfrac14 (\delta_k - \delta_{k-1})\big)

    The step size starts at twice the budget. At checkpoints that grow denser it is halved, and the search goes back to
    the best point, where fewer than three quarters of the steps rose or neither step size nor best value changed since
    the last one. The best of all steps and restarts is kept; the first start is the clean point, later ones are random.

    Args:
        steps: Number of gradients per start.
        restarts: Number of starts.
        objective: What is maximised, one of :data:`OBJECTIVES`.

    Source: the equations of the paper, with these deliberate differences: the norm of a step is that of the threat
    model, per item or over the matrix; checkpoints are rounded to the nearest step, and the clean point competes.
    """

    def __init__(self, steps: int = 50, restarts: int = 1, objective: str = "recall") -> None:
        self._check_counts(steps=steps, restarts=restarts)
        self.steps = steps
        self.restarts = restarts
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best perturbation met."""
        # Whoever finds nothing better does nothing.
        best, best_value = problem.zero(), problem.value(problem.zero(), exact=True)
        bar = tqdm(total=self.steps * self.restarts, desc="APGD", unit="step", disable=not progress, leave=False)
        with bar:
            for start in problem.starts(self.restarts, generator):
                found = self._ascend(problem, start, bar)
                value = problem.value(found, exact=True)
                if value > best_value:
                    best, best_value = found, value
        return best

    def _ascend(self, problem: Problem, delta: Features, bar: tqdm[None]) -> Features:
        marks = _checkpoints(self.steps)
        size, before, rises, since = 2.0, delta, 0, 0
        value, gradient = problem.value_and_gradient(delta)
        best, best_value, best_gradient = delta, value, gradient
        size_then, best_then = size, best_value
        if problem.stuck(problem.steepest(gradient)):
            return delta
        for step in range(1, self.steps + 1):
            rise = problem.steepest(gradient)
            z = problem.project({m: d + size * rise[m] for m, d in delta.items()})
            if step > 1:
                z = problem.project(
                    {m: d + _MOMENTUM * (z[m] - d) + (1 - _MOMENTUM) * (d - before[m]) for m, d in delta.items()}
                )
            before, delta, last = delta, z, value
            if step == self.steps:
                # Nothing follows from the last point's gradient.
                value = problem.value(delta)
            else:
                value, gradient = problem.value_and_gradient(delta)
            bar.update()
            rises, since = rises + (value > last), since + 1
            if value > best_value:
                best, best_value, best_gradient = delta, value, gradient
            if step in marks:
                if rises < _ENOUGH * since or (size == size_then and best_value == best_then):
                    size, delta, before = size / 2, best, best
                    value, gradient = best_value, best_gradient
                    size_then = size * 2
                else:
                    size_then = size
                best_then, rises, since = best_value, 0, 0
        return best


def _checkpoints(steps: int) -> set[int]:
    marks, part, width = set(), 0.22, 0.22
    while part <= 1:
        # At least one step between two checkpoints.
        marks.add(max(1, round(part * steps)))
        width = max(width - 0.03, 0.06)
        part += width
    return marks
