"""One perturbation for all items."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.pgd import step_share
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features


class Universal(Attack):
    r"""One direction per modality that is added to every item at its own budget, :math:`\delta_i = r_i\, d`, as a
    filter over all pictures would be; `"Universal Adversarial Perturbations" <https://arxiv.org/abs/1610.08401>`_
    (Moosavi-Dezfooli et al., CVPR 2017), here by projected gradient ascent on :math:`d` in the unit ball.

    A budget over the whole matrix is shared equally by the items that may be changed. The directions are
    ``details["directions"]``.

    Args:
        steps: Number of steps.
        step_size: Size of a step in the unit ball (default: ``2.5 / steps``).
        objective: What is maximised, one of :data:`OBJECTIVES`.
    """

    def __init__(self, steps: int = 30, step_size: float | None = None, objective: str = "recall") -> None:
        self._check_counts(steps=steps)
        self.steps = steps
        self.step_size = step_size
        self.objective = check_objective(objective)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best common direction, spread over the items."""
        norm = problem.threat.norm
        size = step_share(self.steps, self.step_size)
        shares = problem.shares()
        # The same change of all items may leave every ranking as it is, so the clean point has no gradient to offer.
        direction = {
            m: norms.steepest(problem.normal(m, generator)[:1], norm, False) for m in problem.threat.modalities
        }
        # Whoever finds nothing better does nothing.
        best = {m: torch.zeros_like(d) for m, d in direction.items()}
        best_value = problem.value(problem.zero(), exact=True)
        for _ in tqdm(range(self.steps), desc="Universal", unit="step", disable=not progress, leave=False):
            value, gradient = problem.value_and_gradient(_spread(direction, shares))
            if value > best_value:
                best, best_value = direction, value
            moved = {m: (gradient[m] * shares[m]).sum(0, keepdim=True) for m in direction}
            direction = {
                m: norms.project(d + size * norms.steepest(moved[m], norm, False), d.new_ones(1, 1), norm, False)
                for m, d in direction.items()
            }
        if problem.value(_spread(direction, shares)) > best_value:
            best = direction
        problem.details["directions"] = {m: d.flatten() for m, d in best.items()}
        return _spread(best, shares)


def _spread(direction: Features, shares: Features) -> Features:
    return {m: shares[m] * d for m, d in direction.items()}
