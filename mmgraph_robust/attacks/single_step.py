"""The single gradient step of the literature."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.typing import Features


class SingleStep(Attack):
    r"""One step along the gradient, as in `"Enhancing Adversarial Robustness of Multi-modal Recommendation via Modality
    Balancing" <https://doi.org/10.1145/3581783.3612337>`_ (Shang et al., MM 2023).

    With ``scope="matrix"`` :math:`X + \rho \Vert X \Vert_F\, G / \Vert G \Vert_F`, which spends most on a few items;
    with ``scope="item"`` :math:`x_i + \rho \Vert x_i \Vert_2\, g_i / \Vert g_i \Vert_2`, items without a gradient
    staying as they are. One step understates what an attacker can do: see :class:`PGD`.

    Args:
        objective: What is maximised; ``"auto"`` is the literature's, ``"margin"`` over the matrix, ``"bpr"`` per item.
        normalise: What the step is scaled by, whatever the budget binds: every item's own gradient (``"item"``), that
            of the whole matrix (``"matrix"``), or what the budget binds (``"scope"``). The result is projected.
    """

    kind: ClassVar[Kind] = "single"

    def __init__(self, objective: str = "auto", normalise: Literal["scope", "item", "matrix"] = "scope") -> None:
        self.objective = objective if objective == "auto" else check_objective(objective)
        if normalise not in ("scope", "item", "matrix"):
            raise ConfigError(f"'SingleStep' expects normalise 'scope', 'item' or 'matrix' (got '{normalise}')")
        self.normalise = normalise

    def objective_for(self, threat: ThreatModel) -> str:
        """The chosen objective, or the literature's for the scope."""
        if self.objective != "auto":
            return self.objective
        return "margin" if threat.scope == "matrix" else "bpr"

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """One step of the full budget."""
        _, gradient = problem.value_and_gradient(problem.zero())
        if self.normalise in ("scope", problem.threat.scope):
            return problem.steepest(gradient)
        whole, norm, shares = self.normalise == "matrix", problem.threat.norm, problem.shares()
        # An l1 step over the matrix goes to as many entries as there are items, as in Problem.steepest.
        entries = int(problem.allowed.sum()) if whole else 1
        step = {m: norms.steepest(g * problem.allowed, norm, whole, entries) for m, g in gradient.items()}
        return {m: s * (norms.size(shares[m], norm, True).float() if whole else shares[m]) for m, s in step.items()}
