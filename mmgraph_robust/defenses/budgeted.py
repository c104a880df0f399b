"""What defenses have in common that perturb features within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import ThreatModel
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, defended_modalities
from mmgraph_robust.models import Recommender


class Budgeted(Defense):
    """Base of defenses that train on features perturbed within a budget.

    Args:
        budget: Size of the perturbation.
        modalities: The modalities to defend (default: all that the model reads).
        scope: Whose norm the budget binds.
        relative: Whether `budget` is relative to the clean features, or in their own unit.

    Raises:
        BudgetError: If the budget is negative or not finite.
        ConfigError: If another argument is none of the known.
    """

    def __init__(
        self, budget: float, modalities: Sequence[str] | None, scope: Literal["item", "matrix"], relative: bool
    ) -> None:
        self.budget = budget
        self.modalities = self._several("modalities", modalities)
        self.scope: Literal["item", "matrix"] = scope
        self.relative = relative
        ThreatModel(self.modalities or ("any",), budget, scope)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their budgets."""
        names = defended_modalities(model, self.modalities)
        self._threat = ThreatModel(names, self.budget, self.scope, relative=self.relative)
        self._radii = self._threat.radii(model.features(data))
