"""Gradient ascent with momentum."""

from __future__ import annotations

import torch

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.typing import Features


class MIM(PGD):
    r"""The momentum iterative method of `"Boosting Adversarial Attacks with Momentum"
    <https://arxiv.org/abs/1710.06081>`_ (Dong et al., CVPR 2018): steps of :class:`PGD` along

    .. math::
        g \leftarrow \mu\, g + \nabla_\delta / \Vert \nabla_\delta \Vert_1

    with the norm taken over what has a budget of its own, an item's row or the whole matrix.

    Args:
        steps: Number of steps.
        decay: Decay :math:`\mu` of earlier gradients.
        restarts: Number of starts.
        step_size: Size of a step as a part of the budget (default: ``2.5 / steps``).
        objective: What is maximised, one of :data:`OBJECTIVES`.
    """

    def __init__(
        self,
        steps: int = 20,
        decay: float = 1.0,
        restarts: int = 1,
        step_size: float | None = None,
        objective: str = "recall",
    ) -> None:
        super().__init__(steps, restarts, step_size, objective)
        self._check_sizes(decay=decay)
        self.decay = decay

    def direction(self, problem: Problem, gradient: Features, memory: Features) -> Features:
        """The gradients so far, decayed."""
        whole = problem.threat.scope == "matrix"
        result = {}
        for name, g in gradient.items():
            length = norms.size(g, "l1", whole).to(g.dtype).clamp(min=torch.finfo(g.dtype).tiny)
            result[name] = self.decay * memory[name] + g / length
        return result
