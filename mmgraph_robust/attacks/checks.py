"""Sanity checks: what tells an attack that failed from a model that holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.base import Attack, AttackResult, Kind
from mmgraph_robust.attacks.goals import Untargeted
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.schema import build, interactions
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator, hash_tensors

EXPLANATIONS = frozenset({"no_feature_path", "graph_path_only", "ignored_modality"})
"""Flags that say why nothing can change. Every other flag says that an outcome is not to be trusted as it stands."""

_SLACK = 0.02


@dataclass(frozen=True)
class Outcome:
    """What one attack reached, for comparisons.

    Attributes:
        name: Name of the attack with what distinguishes it.
        kind: What it needs of the victim.
        setting: Everything that has to agree for two outcomes to be comparable, but for the budget.
        budget: Its budget.
        clean: The goal's measure on the clean features.
        gain: By how much the measure moved as the attacker wants it.
        family: Name of the attack without its number of steps.
        steps: Its number of steps.
    """

    name: str
    kind: Kind
    setting: str
    budget: float
    clean: float
    gain: float
    family: str = ""
    steps: int = 0


def compare(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """Flags of outcomes that contradict each other: PGD does no less than one step and that no less than noise, more
    steps and more budget do no less, and whoever knows less does no more.

    Args:
        outcomes: The outcomes.

    Returns:
        One dict per outcome.
    """
    flags: list[dict[str, str]] = [{} for _ in outcomes]
    for mine, found in zip(outcomes, flags, strict=True):
        for other in outcomes:
            if other is mine or other.setting != mine.setting:
                continue
            rule = _contradiction(mine, other)
            if rule is not None:
                name, what = rule
                found[name] = (
                    f"{what}: {mine.name} moves the measure by {mine.gain:.4f}, {other.name} by {other.gain:.4f}"
                )
    return flags


def _contradiction(mine: Outcome, other: Outcome) -> tuple[str, str] | None:
    # Who spends no more than he has to does less on purpose.
    # Differences that say nothing: two per cent of the clean measure, or of the gains, where they are larger than it.
    slack = _SLACK * max(abs(mine.clean), abs(mine.gain), abs(other.gain)) + 1e-12
    if mine.kind == "minimal" or mine.gain >= other.gain - slack:
        return None
    white = ("iterated", "single")
    if other.budget < mine.budget:
        if (other.name, other.family) == (mine.name, mine.family) and mine.kind != "control":
            return "not_growing", f"a smaller budget ({other.budget:g} and not {mine.budget:g}) does more"
        return None
    if other.budget > mine.budget:
        return None
    if mine.kind == "iterated" and other.kind in ("black box", "transfer"):
        return "black_box_stronger", "an attack without gradients does more, so the gradient is masked"
    if mine.kind in white and other.kind == "control":
        return "weaker_than_noise", "random noise of the same size does more"
    if mine.kind == "iterated" and other.kind == "single":
        return "weaker_than_single_step", "one step does more than many"
    if mine.family == other.family and mine.steps > other.steps > 0:
        return "fewer_steps_stronger", "fewer steps do more"
    return None


def budget_overrun(result: AttackResult, data: HeteroData, threat: ThreatModel) -> str | None:
    """Features that left the budget, the box or the attacker's items, as they are stored."""
    clean, stored = features_of(data), features_of(result.data)
    radii = threat.radii({m: clean[m] for m in threat.modalities})
    owned = threat.allowed(next(iter(clean.values())).size(0), torch.device("cpu")).flatten() > 0
    bad = [m for m, x in stored.items() if m not in threat.modalities and not torch.equal(x, clean[m])]
    for name, (low, high) in threat.bounds(clean).items():
        if float(stored[name].min()) < low or float(stored[name].max()) > high:
            bad.append(name)
    for name, radius in radii.items():
        change = stored[name].double().cpu() - clean[name].double().cpu()
        if threat.excess(change, radius.cpu()) > 1e-6 or bool(change[~owned].any()):
            bad.append(name)
    return f"changes of {', '.join(sorted(set(bad)))} overrun the threat model" if bad else None


class Snapshot:
    """Everything that an attack has to leave as it was: weights, modes and gradient flags of a model, and the data.

    Args:
        model: The model.
        data: The data.
    """

    def __init__(self, model: Recommender, data: HeteroData) -> None:
        self.state = self._take(model, data)

    def side_effects(self, model: Recommender, data: HeteroData) -> str | None:
        """What has changed since an attack."""
        changed = self.changed(model, data)
        return f"the attack changed {', '.join(changed)}" if changed else None

    def changed(self, model: Recommender, data: HeteroData) -> list[str]:
        """What has changed since, by name."""
        now = self._take(model, data)
        return [name for name, value in self.state.items() if now[name] != value]

    @staticmethod
    def _take(model: Recommender, data: HeteroData) -> dict[str, object]:
        splits = {f"split_{name}": interactions(data, name) for name in ("train", "val", "test")}
        return {
            "the model's weights": hash_tensors(**model.state_dict()),
            "the model's mode": [module.training for module in model.modules()],
            "the parameters' requires_grad": [p.requires_grad for p in model.parameters()],
            "the parameters' gradients": [p.grad is None for p in model.parameters()],
            "the data": hash_tensors(**splits, **features_of(data)),
            "the stored types of the data": sorted(map(str, data.edge_types)),
        }


def misses_planted_weakness(attack: Attack, threat: ThreatModel) -> str | None:
    """An attack that does not break a model which is weak by construction, under the same kind of budget.

    Thirty users, forty items: a user's taste is a direction in two of thirty-two columns, which are small beside the
    others; a change of a tenth of a row's norm can turn it around, and random noise of that size cannot.

    Args:
        attack: The attack; controls, and attacks on item graphs or with models of their own, are not judged.
        threat: Whose norm, scope and knowledge are used.
    """
    if attack.kind in ("control", "transfer") or attack.needs_item_graph:
        return None
    attack = attack.without_surrogates()
    model, data = _planted()
    kind = ThreatModel(
        ["planted"],
        0.3,
        threat.scope,
        threat.norm,
        goal=Untargeted(k=5),
        knowledge=threat.knowledge,
        queries=threat.queries,
    )
    result = attack(model, data, kind)
    (before,), (after,) = result.before.values(), result.after.values()
    if after <= 0.5 * before:
        return None
    return (
        f"it leaves a recall of {after:.2f} of {before:.2f} to a model that is weak by construction: "
        "that another model holds against it says little"
    )


class _Planted(Recommender):
    def __init__(self, num_users: int, num_items: int, feature_dims: dict[str, int], *, seed: int = 0) -> None:
        super().__init__(num_users, num_items, feature_dims, seed=seed)
        self.taste = torch.nn.Parameter(torch.empty(num_users, 2))
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.taste.copy_(torch.nn.functional.normalize(torch.randn(self.taste.shape, generator=generator), dim=1))

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        return Embeddings({"planted": self.taste}, {"planted": features["planted"][:, :2]})


def _planted() -> tuple[Recommender, HeteroData]:
    generator = child_generator(0, "attack", "planted")
    x = torch.randn(40, 32, generator=generator)
    x[:, :2] = 0.5 * torch.nn.functional.normalize(x[:, :2], dim=1)
    model = _Planted(30, 40, {"planted": 32})
    order = (model.taste.detach() @ x[:, :2].t()).argsort(dim=1, descending=True)
    user = torch.arange(30)
    # The two best items of each user are to be found; the worst one is what she had.
    edges = [torch.stack([user, order[:, column]]) for column in (0, 1, 39)]
    label = torch.tensor([2, 2, 0]).repeat_interleave(30)
    return model, build(torch.cat(edges, dim=1), label, {"planted": x}, num_users=30, num_items=40)
