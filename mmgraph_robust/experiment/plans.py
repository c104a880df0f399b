"""Under which threat models a run attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Goal, Hide, Promote, ThreatModel, Untargeted, modality_sets, pick_items
from mmgraph_robust.attacks.goals import check_ids
from mmgraph_robust.data import modalities
from mmgraph_robust.data.schema import ITEM, USER
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.schema import Strict, parse


class GoalPlan(Strict):
    """A goal, with target items by id or drawn from the catalogue."""

    name: Literal["Untargeted", "Hide", "Promote"] = "Untargeted"
    items: list[int] | None = Field(default=None, min_length=1)
    count: int = 10
    among: Literal["cold", "unpopular", "popular", "all"] = "cold"
    users: list[int] | None = Field(default=None, min_length=1)
    k: int = 20
    own: bool = True

    def check(self) -> None:
        """Refuses what this goal has no use for.

        Raises:
            ConfigError: If targets are given to a goal that has none.
        """
        if self.name == "Untargeted":
            # Defaults are no wish: a configuration that is written out holds them all.
            given = [
                k for k in ("items", "count", "among", "own") if getattr(self, k) != type(self).model_fields[k].default
            ]
            if given:
                raise ConfigError(
                    f"the goal 'Untargeted' has no targets (got {', '.join(given)}): use 'Hide' or 'Promote'"
                )

    def build(self, data: HeteroData, seed: int) -> tuple[Goal, Sequence[int] | None]:
        """The goal, and the items that the attacker may change if none are given: his targets, or all.

        Raises:
            ConfigError: If targets are given to a goal that has none, or there are fewer items than are to be drawn.
        """
        self.check()
        if self.name == "Untargeted":
            return Untargeted(users=self.users, k=self.k), None
        items = pick_items(data, self.count, self.among, seed) if self.items is None else self.items
        kind = Hide if self.name == "Hide" else Promote
        return kind(items, users=self.users, k=self.k), items if self.own else None


class AttackPlan(Strict):
    """Threat models of one attack: every combination of modalities, budgets, scopes, norms, graphs and goals."""

    modalities: list[str | list[str]] = Field(default=["each", "all"], min_length=1)
    budgets: list[float] = Field(default=[0.05], min_length=1)
    scopes: list[Literal["item", "matrix"]] = Field(default=["item"], min_length=1)
    norm: Literal["l1", "l2", "linf"] = "l2"
    relative: bool = True
    items: list[int] | None = Field(default=None, min_length=1)
    labels: Literal["train", "val", "test"] = "test"
    graphs: list[Literal["frozen", "rebuilt"]] = Field(default=["rebuilt"], min_length=1)
    goals: list[GoalPlan] = Field(default=[GoalPlan()], min_length=1)
    box: Literal["clean"] | dict[str, list[float]] | None = None
    knowledge: Literal["white", "transfer", "scores", "ranks"] = "white"
    queries: int | None = None

    def check(self) -> list[ThreatModel]:
        """Builds what can be built without data: bad values are refused before training.

        Raises:
            ConfigError: If a value does not fit.
        """
        for goal in self.goals:
            goal.check()
        named = [name for chosen in self.modalities for name in ([chosen] if isinstance(chosen, str) else chosen)]
        modality_sets(list(dict.fromkeys(named)), self.modalities)
        names = list(self.box) if isinstance(self.box, dict) and self.box else ["any"]
        return [self._threat(names, budget, "item", "rebuilt", Untargeted(), None) for budget in self.budgets]

    def threats(self, data: HeteroData, seed: int) -> list[ThreatModel]:
        """All threat models on a data set.

        Args:
            data: The data set.
            seed: Seed of drawn target items.

        Raises:
            ConfigError: If a modality, or an id of an item or a user, is none of the data set's.
        """
        names = list(modalities(data))
        for name in self.box if isinstance(self.box, dict) else ():
            if name not in names:
                raise ConfigError(f"box: {unknown_name('modality', name, names)}")
        goals = [goal.build(data, seed) for goal in self.goals]
        threats = [
            # Given items win over a goal's targets, as on the command line.
            self._threat(chosen, budget, scope, graph, goal, own if self.items is None else self.items)
            for goal, own in goals
            for graph in self.graphs
            for scope in self.scopes
            for chosen in modality_sets(names, self.modalities)
            for budget in self.budgets
        ]
        for threat in threats:
            check_ids("items", threat.items or (), int(data[ITEM].num_nodes))
            threat.goal.check_ids(int(data[USER].num_nodes), int(data[ITEM].num_nodes))
        return threats

    def _threat(
        self,
        names: list[str],
        budget: float,
        scope: Literal["item", "matrix"],
        graph: Literal["frozen", "rebuilt"],
        goal: Goal,
        items: Sequence[int] | None,
    ) -> ThreatModel:
        box: Any = self.box
        if isinstance(box, dict):
            box = {m: b for m, b in box.items() if m in names} or None
        return ThreatModel(
            names, budget, scope, self.norm, self.relative, items, self.labels, graph, goal, box, self.knowledge,
            self.queries,
        )  # fmt: skip


def read_goal(values: Mapping[str, Any], data: HeteroData, seed: int) -> tuple[Goal, Sequence[int] | None]:
    """A goal from plain values, and the items that it lets the attacker change.

    Raises:
        ConfigError: If a key or a value does not fit.
    """
    return parse(GoalPlan, values, "threat.goal").build(data, seed)
