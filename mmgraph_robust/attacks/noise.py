"""Random noise, the control of every attack."""

from __future__ import annotations

from typing import ClassVar

import torch

from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features


class Noise(Attack):
    """A random direction at the full budget: what is lost without an adversary.

    An attack that does no more than this shows no weakness of the model.
    """

    kind: ClassVar[Kind] = "control"

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Gaussian directions (for linf their signs, for l1 their largest entry), scaled to the budget."""
        return problem.random(generator)
