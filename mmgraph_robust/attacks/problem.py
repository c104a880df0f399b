"""What an attack searches: perturbations of the attacked features, and their worth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.goals import Untargeted
from mmgraph_robust.attacks.objectives import OBJECTIVES, Objective, RankObjective
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.victim import graph_under, immunity, same, seen_by
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.schema import interactions
from mmgraph_robust.errors import BudgetError, ConfigError, DataError, NonFiniteError
from mmgraph_robust.metrics import rank_items
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator

_DRAWS = 8


class Problem:
    """One attack's search space: perturbations of the attacked features, and their worth.

    Where two forward passes on the same features differ, values and gradients are means over eight draws ("Obfuscated
    Gradients Give a False Sense of Security", Athalye, Carlini and Wagner, ICML 2018, call it expectation over
    transformation).

    Args:
        model: The victim.
        graph: Its graph.
        features: All clean features.
        threat: What is allowed.
        objective: What is maximised.
        known: ``[2, m]`` the positives that the attacker knows (default: the objective's pairs).
    """

    def __init__(
        self,
        model: Recommender,
        graph: Graph,
        features: Features,
        threat: ThreatModel,
        objective: Objective,
        known: Tensor | None = None,
    ) -> None:
        self.model = model
        self.graph = graph
        self.features = features
        self.threat = threat
        self.objective = objective
        self.known = objective.pairs if known is None else known
        self.seen = seen_by(graph, threat)
        self.radii = threat.radii(features)
        self.allowed = threat.allowed(graph.num_items, graph.device)
        self.bounds = threat.bounds(features)
        self.stochastic = False
        self.notes: dict[str, str] = {}
        """What the search found that a reader must know, by name."""
        self.details: dict[str, Any] = {}
        """What the search found besides a perturbation; see :class:`AttackResult`."""
        self.queries = 0
        """How often the victim was asked under ``knowledge="scores"`` or ``"ranks"``."""
        self.blind: set[str] | None = None
        """The modalities in which no gradient was met; None as long as none was asked for."""

    @classmethod
    def from_data(
        cls, model: Recommender, data: HeteroData, threat: ThreatModel, objective: str = "recall", seed: int = 0
    ) -> Problem:
        """The search space on a data set, with everything checked.

        Args:
            model: The victim.
            data: The clean data.
            threat: What is allowed.
            objective: Name of what is maximised.
            seed: Seed of the objective's randomness.

        Raises:
            ConfigError: If the threat names a modality that `data` lacks or that the model does not read, if nothing
                that the model reads can be changed, or if a box leaves out clean features.
            DataError: If the attacker knows no positives.
        """
        if model.feature_path == "none":
            raise ConfigError(
                f"{immunity(model)}: there is nothing to attack; 'robustness' and the suite of attacks report it so"
            )
        features_of(data, threat.modalities)
        model.features(data)  # that the data are of the model's size
        for name in threat.modalities if model.modalities else ():
            model.check_modality(name)
        features = {m: x.to(model.device) for m, x in features_of(data).items()}
        graph = graph_under(model, data, threat)
        known = interactions(data, threat.labels).to(model.device)
        goal = threat.goal
        if known.size(1) == 0 and isinstance(goal, Untargeted):
            raise DataError(f"the {threat.labels} split is empty: the attacker has no positives; choose other 'labels'")
        seen = seen_by(graph, threat)
        pairs = goal.pairs(known, seen, child_generator(seed, "attack", "pairs"))
        ranks = threat.knowledge == "ranks"
        kind = RankObjective if ranks else OBJECTIVES[objective]
        # The lists that he is shown leave out what the goal leaves out.
        worth = kind(pairs, graph.with_interactions(seen) if ranks else graph, seed, k=goal.k, promote=goal.rises)
        return cls(model, graph, features, threat, worth, known)

    def with_objective(self, name: str) -> Problem:
        """The same problem under another objective, with flags, details and queries of its own."""
        other = copy.copy(self)
        # Who sees ranks only has but one objective.
        kind = RankObjective if self.threat.knowledge == "ranks" else OBJECTIVES[name]
        other.objective = self.objective.sibling(kind)
        other.notes, other.details, other.blind, other.queries = {}, {}, None, 0
        # Scales that an objective takes from its first call are those of the clean features.
        other.worth(other.embeddings(other.zero()))
        return other

    def zero(self) -> Features:
        """No change."""
        return {m: torch.zeros_like(self.features[m]) for m in self.threat.modalities}

    def perturbed(self, delta: Features) -> Features:
        """The features with `delta` added."""
        return self.features | {m: self.features[m] + d for m, d in delta.items()}

    def project(self, delta: Features) -> Features:
        """The closest allowed perturbation; inside a box, one near it."""
        result = {}
        for name, change in delta.items():
            change = self.threat.project(change * self.allowed, self.radii[name])
            if name in self.bounds:
                low, high = self.bounds[name]
                x = self.features[name]
                # Clean features lie in the box, so clipping shortens every entry and no norm grows.
                change = torch.minimum(torch.maximum(change, low - x), high - x)
            result[name] = change
        return result

    def final(self, delta: Features) -> Features:
        """The perturbed features of the attacked modalities, inside budget and box also after float32's rounding."""
        result = {}
        for name, change in self.project(delta).items():
            x = self.threat.apply(self.features[name], change, self.radii[name])
            result[name] = x.clamp(*self.bounds[name]) if name in self.bounds else x
        return result

    def steepest(self, gradient: Features) -> Features:
        """The full-budget step that rises fastest along `gradient`.

        An l1 budget over the whole matrix is the exception: it goes to as many entries as there are items, since one
        entry at a time would take as many steps as there are items to move.
        """
        entries = int(self.allowed.sum()) if self.threat.scope == "matrix" else 1
        return {m: self.threat.steepest(g * self.allowed, entries) * self.radii[m] for m, g in gradient.items()}

    def shares(self) -> Features:
        """``[num_items, 1]`` per modality: the budget of each item, where one over the matrix is shared equally."""
        shares = {}
        for name, radius in self.radii.items():
            if self.threat.scope == "matrix":
                count = float(self.allowed.sum().clamp(min=1))
                radius = radius / {"l1": count, "l2": count**0.5, "linf": 1.0}[self.threat.norm]
            shares[name] = radius * self.allowed
        return shares

    def random(self, generator: torch.Generator) -> Features:
        """A random direction at the full budget."""
        return self.steepest({m: self.normal(m, generator) for m in self.threat.modalities})

    def starts(self, count: int, generator: torch.Generator) -> Iterator[Features]:
        """Where `count` searches begin: at the clean point, then at random ones, each as if none had been before it."""
        yield self.zero()
        for _ in range(count - 1):
            start = self.project(self.random(generator))
            self.objective.forget()
            yield start

    def normal(self, modality: str, generator: torch.Generator) -> Tensor:
        """Gaussian numbers in the shape of a modality."""
        x = self.features[modality]
        return torch.randn(x.shape, generator=generator).to(x.device)

    def embeddings(self, delta: Features) -> Embeddings:
        """The model's embeddings at `delta`, the whole forward pass computed anew."""
        return self.forward(self.perturbed(delta))

    def forward(self, features: Features) -> Embeddings:
        """The model's embeddings on some features, without gradients."""
        with torch.no_grad():
            result: Embeddings = self.model(features, self.graph)
            return result

    def worth(self, embeddings: Embeddings) -> float:
        """The objective on some embeddings, nothing of it kept from earlier calls."""
        with torch.no_grad():
            return float(self.objective(embeddings, exact=True))

    def value(self, delta: Features, exact: bool = False) -> float:
        """The objective at `delta`, with the whole forward pass computed anew.

        Args:
            delta: The perturbation.
            exact: See :class:`~mmgraph_robust.attacks.Objective`.

        Raises:
            BudgetError: If the threat model allows no further query.
        """
        self._ask()
        with torch.no_grad():
            values = [float(self.objective(self.embeddings(delta), exact)) for _ in range(self.draws)]
        return sum(values) / len(values)

    def value_and_gradient(self, delta: Features) -> tuple[float, Features]:
        """The objective at `delta` and its gradient (zeros where the features do not reach it).

        Raises:
            ConfigError: If the threat model gives no gradients.
            NonFiniteError: If the objective is not finite.
        """
        if self.threat.knowledge != "white":
            raise ConfigError(f"knowledge='{self.threat.knowledge}' gives no gradients of the victim")
        if self.blind is None:
            self.blind = set(delta)
        total, gradients = 0.0, self.zero()
        for _ in range(self.draws):
            value, found = self._gradient(delta)
            total += value
            gradients = found if self.draws == 1 else {m: gradients[m] + g for m, g in found.items()}
        self.blind -= {m for m, g in gradients.items() if bool((g * self.allowed).any())}
        return total / self.draws, gradients

    def route(self, features: Features) -> Graph:
        """The graph that gradients are taken through; its forward pass gives the value of the graph itself."""
        return self.graph

    @property
    def repeats(self) -> bool:
        """Whether the same perturbation meets the same gradient again."""
        return not self.stochastic

    def stuck(self, step: Features) -> bool:
        """Whether a search that follows gradients stays where it is for good: its step is zero, and would be again."""
        return self.repeats and not any(bool(s.any()) for s in step.values())

    def _gradient(self, delta: Features) -> tuple[float, Features]:
        leaves = {m: d.detach().clone().requires_grad_() for m, d in delta.items()}
        with torch.enable_grad():
            features = self.perturbed(leaves)
            value = self.objective(self.model(features, self.route(features)))
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(f"the attack's objective became {float(value)}: the model is not finite there")
        if not value.requires_grad:
            return float(value.detach()), self.zero()
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return float(value.detach()), {
            m: torch.zeros_like(leaves[m]) if g is None else g for m, g in zip(leaves, found, strict=True)
        }

    @property
    def queries_left(self) -> int | None:
        """How often the victim may still be asked; None without a limit."""
        return None if self.threat.queries is None else self.threat.queries - self.queries

    def _ask(self) -> None:
        if self.threat.knowledge == "transfer":
            raise ConfigError("knowledge='transfer' never asks the victim: use 'Transfer', or allow queries")
        if self.queries_left is not None and self.queries_left <= 0:
            raise BudgetError(f"the threat model allows {self.threat.queries} queries, and one more was asked for")
        self.queries += 1

    def per_user(self, embeddings: Embeddings) -> tuple[Tensor, Tensor]:
        """The goal's measure on some embeddings: user ids and their values."""
        return self.threat.goal.per_user(embeddings, self.known, self.seen)

    def listed(self, embeddings: Embeddings) -> Tensor:
        """``[n]`` whether the item of each of the objective's pairs stands in its user's list."""
        users, place = torch.unique(self.objective.user, return_inverse=True)
        user, item = embeddings.concatenated()
        lists = rank_items(user, item, users, self.seen, self.threat.goal.k)
        result: Tensor = (lists[place] == self.objective.item[:, None]).any(1)
        return result

    def within(self, part: float) -> Problem:
        """The same problem at a part of the budget."""
        other = copy.copy(self)
        other.radii = {m: part * r for m, r in self.radii.items()}
        return other

    def measure(self, embeddings: Embeddings) -> float:
        """The mean of :meth:`per_user`."""
        return float(self.per_user(embeddings)[1].mean())

    def flags(self) -> dict[str, str]:
        """What a reader must know of the model and of what the search met."""
        flags = {}
        model = type(self.model).__name__
        if self.stochastic:
            flags["stochastic"] = (
                f"two forward passes of '{model}' on the same features differ: attacks with gradients average over "
                f"{_DRAWS} draws, and every figure is one draw"
            )
        if self.model.feature_path == "graph":
            flags["graph_path_only"] = (
                f"features reach the score of '{model}' through its item graph only: a frozen graph hides every attack"
            )
        if self.blind:
            flags["no_gradient"] = (
                f"the attack met no gradient in {', '.join(sorted(self.blind))}: that the ranking holds there may be "
                "the attack's blindness and not the model's strength"
            )
        return flags | self.notes

    def settle(self) -> Embeddings:
        """Embeddings on the clean features, after finding out whether the forward pass is random."""
        first, second = self.embeddings(self.zero()), self.embeddings(self.zero())
        self.stochastic = not same(first, second)
        return first

    @property
    def draws(self) -> int:
        """How many forward passes a value or gradient is the mean of."""
        # Who pays for every answer gets no more for one.
        return _DRAWS if self.stochastic and self.threat.knowledge == "white" else 1
