"""The single gradient step of the literature."""

from __future__ import annotations

import torch

from mmgraph_robust.attacks.base import Attack, Problem
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.typing import Features


class SingleStep(Attack):
    r"""One step along the gradient, as in `"Enhancing Adversarial Robustness of Multi-modal Recommendation via Modality
    Balancing" <https://doi.org/10.1145/3581783.3612337>`_ (Shang et al., MM 2023).

    With ``scope="matrix"`` :math:`X + \rho \Vert X \Vert_F\, G / \Vert G \Vert_F`, which spends most on a few items;
    with ``scope="item"`` :math:`x_i + \rho \Vert x_i \Vert_2\, g_i / \Vert g_i \Vert_2`, items without a gradient
    staying as they are. One step understates what an attacker can do: see :class:`PGD`.

    Args:
        objective: What is maximised; ``"auto"`` is the literature's, ``"margin"`` over the matrix, ``"bpr"`` per item.
    """

    def __init__(self, objective: str = "auto") -> None:
        self.objective = objective if objective == "auto" else check_objective(objective)

    def objective_for(self, threat: ThreatModel) -> str:
        """The chosen objective, or the literature's for the scope."""
        if self.objective != "auto":
            return self.objective
        return "margin" if threat.scope == "matrix" else "bpr"

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """One step of the full budget."""
        _, gradient = problem.value_and_gradient(problem.zero())
        return problem.steepest(gradient)
