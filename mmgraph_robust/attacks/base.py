"""The contract of an attack."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.victim import frozen, immunity, seen_by
from mmgraph_robust.data.item_graphs import with_item_graphs
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.schema import interactions, with_features
from mmgraph_robust.errors import BudgetError, ConfigError, NonFiniteError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.models.base import check_recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Described, child_generator

_TOLERANCE = 1e-6
Kind = Literal["iterated", "minimal", "single", "black box", "transfer", "control"]
_ENOUGH: dict[Kind, tuple[str, ...]] = {
    "iterated": ("white",),
    "minimal": ("white",),
    "single": ("white",),
    "black box": ("white", "scores", "ranks"),
    "transfer": ("white", "transfer", "scores", "ranks"),
    "control": ("white", "transfer", "scores", "ranks"),
}


@dataclass(frozen=True)
class AttackResult:
    """What an attack did.

    Attributes:
        data: The data set with the perturbed features, and the item graphs of the clean ones where the threat model
            freezes them; everything else is shared with the clean one.
        delta: ``[num_items, dim]`` change of each attacked modality.
        clean_objective: The attacker's objective on the clean features.
        objective: The same on the features of `data`.
        before: What the goal is judged by, such as ``{"recall@20": 0.1}``, on the clean features.
        after: The same on the features of `data`.
        flags: What a reader must know before trusting the outcome, by name.
        details: What else the attack found: what, its docstring says.
        seconds: How long it took.
    """

    data: HeteroData
    delta: Features
    clean_objective: float
    objective: float
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Attack(Described):
    """Base of all attacks on item features.

    Calling an attack resolves the budget, runs it, projects, checks, and measures success on the projected features.
    Subclasses write :meth:`run` only. The model, its mode and flags, the data and the process's random numbers are left
    as they were, also after an error.
    """

    objective: str = "recall"
    kind: ClassVar[Kind] = "iterated"
    """What it needs of the victim: gradients (``"iterated"``, ``"single"``, and ``"minimal"``, which spends as little
    of the budget as it can), answers (``"black box"``) or nothing."""
    configurable: ClassVar[bool] = True
    """Whether its arguments are plain values, which a configuration file can hold."""
    needs_item_graph: ClassVar[bool] = False
    """Whether it does nothing to a model without an item graph that is rebuilt."""
    states_immunity: ClassVar[bool] = False
    """Whether a model without a feature path is reported as immune, and not refused."""

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
            ConfigError: If the model is no :class:`~mmgraph_robust.models.Recommender`, the threat names a modality
                that `data` lacks or that the model does not read, no feature reaches the model's score, the threat
                model gives less knowledge than the attack needs, or a box leaves out clean features.
            DataError: If the attacker knows no positives.
            BudgetError: If the attack overran its budget.
            NonFiniteError: If what it found is not finite.
        """
        started = time.perf_counter()
        check_recommender(model)
        self._check_knowledge(threat)
        if model.feature_path == "none" and self.states_immunity:
            return untouched(model, data, threat)
        with frozen(model, seed):
            problem = Problem.from_data(model, data, threat, self.objective_for(threat), seed)
            embeddings = problem.settle()
            clean, before = problem.worth(embeddings), _mean(problem, embeddings)
            found = self._checked(self.run(problem, child_generator(seed, "attack", "search"), progress), problem)
            perturbed = {m: x.detach() for m, x in problem.final(found).items()}
            # As stored: adding the change to float32 features rounds it.
            delta = {m: perturbed[m] - problem.features[m] for m in threat.modalities}
            for name, x in perturbed.items():
                change = x.double() - problem.features[name].double()
                if threat.excess(change, problem.radii[name]) > _TOLERANCE:
                    raise BudgetError(f"'{type(self).__name__}' overran the budget of modality '{name}'")
            embeddings = problem.forward(problem.features | perturbed)
            value, after = problem.worth(embeddings), _mean(problem, embeddings)
        attacked = with_features(data, {m: perturbed[m].to(data["item"][f"x_{m}"].device) for m in threat.modalities})
        if model.knn_k is not None:
            # Who evaluates the model on these data meets the graph that the threat model means.
            kept = {m: adjacency.to("cpu") for m, adjacency in problem.graph.item_graphs.items()}
            attacked = with_item_graphs(attacked, kept)
        seconds = time.perf_counter() - started
        return AttackResult(attacked, delta, clean, value, before, after, problem.flags(), problem.details, seconds)

    def objective_for(self, threat: ThreatModel) -> str:
        """The name of the objective under a threat model."""
        return self.objective

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Searches a perturbation; it is projected afterwards."""
        raise NotImplementedError

    def without_surrogates(self) -> Attack:
        """The attack without other models of the victim's data, so that it can be tried on data of another size."""
        return self

    def may_run(self, threat: ThreatModel) -> bool:
        """Whether a threat model gives the knowledge that the attack needs."""
        return threat.knowledge in _ENOUGH[self.kind]

    def _checked(self, found: Features, problem: Problem) -> Features:
        """What :meth:`run` returned, if it is a finite change of every attacked modality."""
        expected = {m: tuple(problem.features[m].shape) for m in problem.threat.modalities}
        got = {m: tuple(x.shape) for m, x in found.items()}
        if got != expected:
            raise ConfigError(f"'{type(self).__name__}.run' has to return changes of shapes {expected} (got {got})")
        for name, x in found.items():
            if not bool(torch.isfinite(x).all()):
                raise NonFiniteError(f"'{type(self).__name__}' found a change of '{name}' that is not finite")
        return found

    def _check_knowledge(self, threat: ThreatModel) -> None:
        if not self.may_run(threat):
            enough = " or ".join(f"'{k}'" for k in _ENOUGH[self.kind])
            raise ConfigError(
                f"'{type(self).__name__}' needs knowledge={enough} "
                f"(got '{threat.knowledge}'): use SPSA or Square for scores and ranks, Transfer without the victim"
            )


def untouched(model: Recommender, data: HeteroData, threat: ThreatModel) -> AttackResult:
    """What any attack on a model that none of the features reach would end with, and why."""
    goal, graph = threat.goal, model.graph(data)
    with frozen(model, 0), torch.no_grad():
        embeddings = model(model.features(data), graph)
    known = interactions(data, threat.labels).to(model.device)
    measured = {goal.measure_name: float(goal.per_user(embeddings, known, seen_by(graph, threat))[1].mean())}
    delta = {m: torch.zeros_like(x) for m, x in features_of(data, threat.modalities).items()}
    if model.feature_path == "none":
        flags = {"no_feature_path": immunity(model)}
    else:
        flags = {"ignored_modality": f"{type(model).__name__} is not shown {', '.join(threat.modalities)}"}
    return AttackResult(data, delta, 0.0, 0.0, measured, dict(measured), flags)


def _mean(problem: Problem, embeddings: Embeddings) -> dict[str, float]:
    return {problem.threat.goal.measure_name: problem.measure(embeddings)}
