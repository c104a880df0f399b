"""The contract of an attack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.objectives import OBJECTIVES, Objective
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.item_graphs import with_item_graphs
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.schema import interactions, with_features
from mmgraph_robust.errors import BudgetError, DataError, NonFiniteError
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class AttackResult:
    """What an attack did.

    Attributes:
        data: The data set with the perturbed features, and the item graphs of the clean ones where the threat model
            freezes them; everything else is shared with the clean one.
        delta: ``[num_items, dim]`` change of each attacked modality.
        clean_objective: The attacker's objective on the clean features.
        objective: The same on the features of `data`.
        flags: What a reader must know before trusting the outcome, by name.
        seconds: How long it took.
    """

    data: HeteroData
    delta: Features
    clean_objective: float
    objective: float
    flags: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Problem:
    """One attack's search space: perturbations of the attacked features, and their worth.

    Args:
        model: The victim.
        graph: Its graph.
        features: All clean features.
        threat: What is allowed.
        objective: What is maximised.
    """

    def __init__(
        self, model: Recommender, graph: Graph, features: Features, threat: ThreatModel, objective: Objective
    ) -> None:
        self.model = model
        self.graph = graph
        self.features = features
        self.threat = threat
        self.objective = objective
        self.radii = threat.radii(features)
        self.allowed = threat.allowed(graph.num_items, graph.device)
        self.unseen: list[str] = []

    @classmethod
    def build(cls, model: Recommender, data: HeteroData, threat: ThreatModel, objective: str, seed: int) -> Problem:
        """The search space on a data set, with everything checked.

        Args:
            model: The victim.
            data: The clean data.
            threat: What is allowed.
            objective: Name of what is maximised.
            seed: Seed of the objective's randomness.

        Raises:
            ConfigError: If the threat names a modality that `data` lacks, or that the model does not read.
            DataError: If the split whose positives the attacker knows is empty.
        """
        features = {m: x.to(model.device) for m, x in features_of(data).items()}
        features_of(data, threat.modalities)
        if model.modalities:
            for name in threat.modalities:
                model.check_modality(name)
        pairs = interactions(data, threat.labels).to(model.device)
        if pairs.size(1) == 0:
            raise DataError(f"the {threat.labels} split is empty: the attacker has no positives; choose other 'labels'")
        graph = graph_under(model, data, threat)
        measure = OBJECTIVES[objective](pairs, graph, child_generator(seed, "attack", "objective"))
        return cls(model, graph, features, threat, measure)

    def zero(self) -> Features:
        """No change."""
        return {m: torch.zeros_like(self.features[m]) for m in self.threat.modalities}

    def perturbed(self, delta: Features) -> Features:
        """The features with `delta` added."""
        return self.features | {m: self.features[m] + d for m, d in delta.items()}

    def project(self, delta: Features) -> Features:
        """The closest allowed perturbation."""
        return {m: self.threat.project(d * self.allowed, self.radii[m]) for m, d in delta.items()}

    def steepest(self, gradient: Features) -> Features:
        """The full-budget step that rises fastest along `gradient`."""
        return {m: self.threat.steepest(g * self.allowed) * self.radii[m] for m, g in gradient.items()}

    def random(self, generator: torch.Generator) -> Features:
        """A random direction at the full budget."""
        draws = {m: torch.randn(x.shape, generator=generator).to(x.device) for m, x in self.zero().items()}
        return self.steepest(draws)

    def value(self, delta: Features) -> float:
        """The objective at `delta`, with the whole forward pass computed anew."""
        with torch.no_grad():
            return float(self.objective(self.model(self.perturbed(delta), self.graph)))

    def route(self, features: Features) -> Graph:
        """The graph that gradients are taken through; its forward pass gives the value of the graph itself."""
        return self.graph

    def value_and_gradient(self, delta: Features) -> tuple[float, Features]:
        """The objective at `delta` and its gradient (zeros where the features do not reach it)."""
        leaves = {m: d.detach().clone().requires_grad_() for m, d in delta.items()}
        with torch.enable_grad():
            features = self.perturbed(leaves)
            value = self.objective(self.model(features, self.route(features)))
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(f"the attack's objective became {float(value)}: the model is not finite there")
        if not value.requires_grad:
            self.unseen = list(leaves)
            return float(value.detach()), self.zero()
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        gradients = {m: torch.zeros_like(leaves[m]) if g is None else g for m, g in zip(leaves, found, strict=True)}
        self.unseen = [m for m, g in gradients.items() if not bool((g * self.allowed).any())]
        return float(value.detach()), gradients

    def flags(self) -> dict[str, str]:
        """What a reader must know of the model and of what the search met."""
        if self.model.feature_path == "none":
            return {
                "no_feature_path": f"no item feature reaches the score of '{type(self.model).__name__}': that it does "
                "not change is no robustness of a multi-modal model"
            }
        flags = {}
        if self.model.feature_path == "graph":
            flags["graph_path_only"] = (
                f"features reach the score of '{type(self.model).__name__}' through its item graph only: "
                "a frozen graph hides every attack"
            )
        if self.unseen:
            flags["no_gradient"] = (
                f"the attack met no gradient in {', '.join(self.unseen)}: that the ranking holds there may "
                "be the attack's blindness and not the model's strength"
            )
        return flags


def graph_under(model: Recommender, data: HeteroData, threat: ThreatModel) -> Graph:
    """The compiled graph of clean data, without the item graphs that follow the features under a threat model."""
    graph = model.graph(data)
    # That of a modality that nobody attacks is the same in both policies.
    kept = [m for m in graph.item_graphs if threat.graph == "frozen" or m not in threat.modalities]
    return graph.with_item_graphs({m: graph.item_graphs[m] for m in kept})


class Attack:
    """Base of all attacks on item features.

    Calling an attack resolves the budget, runs it, projects, checks, and measures success on the projected features.
    Subclasses write :meth:`run` only. The model, its mode and flags, and the data are left as they were, also after
    an error.
    """

    objective: str = "boundary"

    @final
    def __call__(
        self, model: Recommender, data: HeteroData, threat: ThreatModel, *, seed: int = 0, progress: bool = False
    ) -> AttackResult:
        """Attacks `model` on `data`.

        Args:
            model: The victim.
            data: The clean data.
            threat: What is allowed.
            seed: Seed of the attack's own randomness.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: If the threat names a modality that `data` lacks, or that the model does not read.
            DataError: If the split whose positives the attacker knows is empty.
            BudgetError: If the attack overran its budget.
        """
        started = time.perf_counter()
        problem = Problem.build(model, data, threat, self.objective_for(threat), seed)
        features = problem.features
        with frozen(model):
            clean = problem.value(problem.zero())
            found = self.run(problem, child_generator(seed, "attack", "search"), progress)
            perturbed = {m: x.detach() for m, x in problem.perturbed(problem.project(found)).items()}
            # As stored: adding the change to float32 features rounds it.
            delta = {m: perturbed[m] - features[m] for m in threat.modalities}
            for name, change in delta.items():
                if threat.excess(change, problem.radii[name], features[name]) > _TOLERANCE:
                    raise BudgetError(f"'{type(self).__name__}' overran the budget of modality '{name}'")
            value = problem.value(delta)
        attacked = with_features(data, {m: perturbed[m].to(data["item"][f"x_{m}"].device) for m in threat.modalities})
        if model.knn_k is not None:
            # Who evaluates the model on these data meets the graph that the threat model means.
            kept = {m: adjacency.to("cpu") for m, adjacency in problem.graph.item_graphs.items()}
            attacked = with_item_graphs(attacked, kept)
        flags = problem.flags()
        return AttackResult(attacked, delta, clean, value, flags, time.perf_counter() - started)

    def objective_for(self, threat: ThreatModel) -> str:
        """The name of the objective under a threat model."""
        return self.objective

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Searches a perturbation; it is projected afterwards."""
        raise NotImplementedError

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values."""
        return {"name": type(self).__name__} | {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({arguments})"


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients, whatever happens restored to what it was."""
    modes = {module: module.training for module in model.modules()}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for parameter in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
