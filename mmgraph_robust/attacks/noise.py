"""Random noise, the control of every attack."""

from __future__ import annotations

import torch

from mmgraph_robust.attacks.base import Attack, Problem
from mmgraph_robust.typing import Features


class Noise(Attack):
    """A random direction at the full budget: what is lost without an adversary.

    An attack that does no more than this shows no weakness of the model.
    """

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Gaussian directions (signs, for the largest-entry norm), scaled to the budget."""
        return problem.random(generator)
