"""Attacks computed on another model."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch

from mmgraph_robust.attacks.apgd import APGD
from mmgraph_robust.attacks.base import Attack, Kind
from mmgraph_robust.attacks.objectives import OBJECTIVES
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.victim import fingerprint, frozen
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features


class Transfer(Attack):
    """An attack on a surrogate model of the same data, carried over: the victim itself is never asked.

    Args:
        surrogate: The model whose gradients are used, trained on the same users and items.
        attack: The attack on it (default: :class:`APGD`).
    """

    kind: ClassVar[Kind] = "transfer"
    configurable: ClassVar[bool] = False

    def __init__(self, surrogate: Recommender, attack: Attack | None = None) -> None:
        if surrogate.feature_path == "none":
            raise ConfigError(f"'{type(surrogate).__name__}' reads no item features: it can be no surrogate")
        self._surrogate = surrogate
        self._attack = APGD() if attack is None else attack
        self.surrogate = type(surrogate).__name__
        self.attack = self._attack.describe()

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values, with what tells the surrogate from others of its class."""
        return super().describe() | {"weights": fingerprint(self._surrogate)}

    def objective_for(self, threat: ThreatModel) -> str:
        """The objective of the attack on the surrogate."""
        return self._attack.objective_for(threat)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """What the attack finds on the surrogate."""
        surrogate = self._surrogate
        sizes = surrogate.num_users, surrogate.num_items
        if sizes != (problem.graph.num_users, problem.graph.num_items):
            raise ConfigError(f"the surrogate '{self.surrogate}' was built for {sizes} users and items: train it anew")
        if surrogate.device != problem.graph.device:
            raise ConfigError(
                f"the surrogate '{self.surrogate}' is on {surrogate.device} and the victim on {problem.graph.device}: "
                "move it with .to(...)"
            )
        for name in problem.threat.modalities:
            surrogate.check_modality(name)
        threat = replace(problem.threat, knowledge="white", queries=None)
        with frozen(surrogate, generator.initial_seed() % 2**31):
            graph = problem.graph.with_item_graphs({})
            if threat.graph == "frozen" and surrogate.knn_k is not None:
                with torch.no_grad():
                    graph = graph.with_item_graphs(surrogate.item_graphs(problem.features, graph))
            objective = problem.objective.on(graph).sibling(OBJECTIVES[self.objective_for(threat)])
            other = Problem(surrogate, graph, problem.features, threat, objective, problem.known)
            other.worth(other.settle())
            found = self._attack.run(other, generator, progress)
        problem.blind = other.blind
        problem.notes |= other.notes
        return found
