"""What a model loses under attack, and in which modality."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.attacks import (
    PGD,
    Attack,
    GraphRelaxation,
    NeighbourSwap,
    Noise,
    ThreatModel,
    Untargeted,
    expand,
    suite,
)
from mmgraph_robust.attacks.base import Kind, untouched
from mmgraph_robust.attacks.checks import Outcome, Snapshot, budget_overrun, compare, misses_planted_weakness
from mmgraph_robust.attacks.probes import probe
from mmgraph_robust.attacks.threat import restrict
from mmgraph_robust.data.schema import modalities
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.evaluation.ranking import Evaluator, embed
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.utils import hash_json, hash_tensors, pack

_LOG = logging.getLogger(__name__)
_PROBED = 0.05


class RobustnessEvaluator:
    """Quality and score margins of one model, clean and under one attack after another.

    What several attacks need is made once: the clean embeddings, and the checks of the model under a setting. Of the
    modalities of a threat model those are attacked that the model reads, so that a model which is shown fewer of them
    can stand beside the others.

    Args:
        model: The model.
        data: The clean data.
        split: The split to evaluate on.
        k: Cut-offs.
        mask_validation: See :class:`~mmgraph_robust.evaluation.Evaluator`.
        per_user: Metrics whose values for every user of the split, in ascending order, are kept beside their means, as
            what :func:`~mmgraph_robust.utils.unpack` reads: for statistics over users.
        checks: Whether the checks are made; they cost about as much as an attack of twenty steps on each setting.
        seed: Seed of the attacks.

    Attributes:
        clean: ``metrics`` and ``margins`` on the clean data.

    Raises:
        ConfigError: If a metric of `per_user` is not computed.
    """

    def __init__(
        self,
        model: Recommender,
        data: HeteroData,
        *,
        split: Literal["val", "test"] = "test",
        k: Sequence[int] = (10, 20),
        mask_validation: bool = False,
        per_user: Sequence[str] = (),
        checks: bool = True,
        seed: int = 0,
    ) -> None:
        self.model, self.data, self.seed = model, data, seed
        self.checks = checks and model.feature_path != "none"
        self._per_user = tuple(per_user)
        self._evaluator = Evaluator(data, split, k, mask_validation=mask_validation)
        self.clean = self._measured(embed(model, data))
        self._weights = hash_tensors(**model.state_dict())
        self._attacked: dict[str, dict[str, Any]] = {}
        self._probed: dict[str, dict[str, str]] = {}
        self._planted: dict[str, str | None] = {}

    def __call__(self, attack: Attack, threat: ThreatModel, progress: bool = False) -> dict[str, Any]:
        """What one attack does, as plain JSON values; see :func:`robustness`.

        Args:
            attack: The attack.
            threat: What it may do.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: If the model has other weights than when this was made.
        """
        if hash_tensors(**self.model.state_dict()) != self._weights:
            raise ConfigError(
                "the model has other weights than when its clean figures were taken: make a new evaluator"
            )
        read = self._read(threat)
        # Without an item graph, frozen and rebuilt are one.
        described = threat.describe() if read is None else read.describe()
        relevant = {k: v for k, v in described.items() if k != "graph" or self.model.knn_k is not None}
        key = hash_json([attack.describe(), relevant])
        if key not in self._attacked:
            self._attacked[key] = self._attack(attack, threat, read, progress)
        entry = self._attacked[key] | threat.describe()
        entry["flags"] = dict(entry["flags"])
        setting = hash_json({k: v for k, v in threat.describe().items() if k not in ("budget", "knowledge", "queries")})
        if self.checks and read is not None:
            entry["flags"] |= self._flags(attack, read, setting)
        return entry | {"outcome": asdict(_outcome(attack, threat, setting, entry))}

    def _read(self, threat: ThreatModel) -> ThreatModel | None:
        """The threat on what the model reads; None where it reads nothing of it."""
        known = modalities(self.data)
        for name in threat.modalities:
            if name not in known:
                raise ConfigError(unknown_name("modality", name, known))
        names = [m for m in threat.modalities if m in self.model.modalities]
        if self.model.feature_path == "none" or not names:
            return None
        return threat if len(names) == len(threat.modalities) else restrict(threat, names)

    def _attack(self, attack: Attack, threat: ThreatModel, read: ThreatModel | None, progress: bool) -> dict[str, Any]:
        model, data = self.model, self.data
        before = Snapshot(model, data)
        if read is None:
            outcome = untouched(model, data, threat)
        else:
            outcome = attack(model, data, read, seed=self.seed, progress=progress)
        found = {
            "side_effects": before.side_effects(model, data),
            "budget_overrun": budget_overrun(outcome, data, threat),
        }
        return {
            "attack": type(attack).__name__,
            "arguments": attack.describe(),
            **threat.describe(),
            "seconds": outcome.seconds,
            "flags": outcome.flags | {name: text for name, text in found.items() if text is not None},
            "objective": {
                "name": attack.objective_for(threat),
                "clean": outcome.clean_objective,
                "attacked": outcome.objective,
            },
            "measure": {m: {"clean": x, "attacked": outcome.after[m]} for m, x in outcome.before.items()},
            "details": {name: value for name, value in outcome.details.items() if name in ("parts", "worst_per_user")},
            **self._measured(embed(model, outcome.data)),
        }

    def _measured(self, embeddings: Embeddings) -> dict[str, Any]:
        values = self._evaluator.per_user(embeddings)
        for name in self._per_user:
            if name not in values:
                raise ConfigError(unknown_name("metric", name, values))
        measured: dict[str, Any] = {
            "metrics": {name: float(value.mean()) for name, value in values.items()},
            "margins": self._evaluator.margins(embeddings),
        }
        return measured | ({"per_user": {n: pack(values[n]) for n in self._per_user}} if self._per_user else {})

    def _flags(self, attack: Attack, threat: ThreatModel, setting: str) -> dict[str, str]:
        if setting not in self._probed:
            # At one budget, so that no flag depends on which attack came first.
            probed = replace(threat, budget=_PROBED, relative=True)
            self._probed[setting] = probe(self.model, self.data, probed, self.seed)
        kind = hash_json([attack.describe(), threat.scope, threat.norm, threat.knowledge, threat.queries])
        if kind not in self._planted:
            self._planted[kind] = misses_planted_weakness(attack, threat)
        missed = self._planted[kind]
        return self._probed[setting] | ({} if missed is None else {"misses_planted_weakness": missed})


def robustness(
    model: Recommender,
    data: HeteroData,
    attacks: Sequence[tuple[Attack, ThreatModel]] | None = None,
    *,
    split: Literal["val", "test"] = "test",
    k: Sequence[int] = (10, 20),
    mask_validation: bool = False,
    per_user: Sequence[str] = (),
    checks: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Quality and score margins, clean and under each attack, with flags that say which figures not to trust.

    Every attacked figure comes from a full forward pass on the attacked features. Besides what an attack itself says,
    flags come from checks of the model (:mod:`mmgraph_robust.attacks.probes`) and of the outcomes
    (:mod:`mmgraph_robust.attacks.checks`). A model that no feature reaches is not attacked: its entries say why nothing
    can change.

    Args:
        model: The model.
        data: The clean data.
        attacks: What to run, each under its threat model (default: the standard suite at 5 % per item, on each modality
            alone and on all jointly).
        split: The split to evaluate on.
        k: Cut-offs.
        mask_validation: See :class:`~mmgraph_robust.evaluation.Evaluator`.
        per_user: See :class:`RobustnessEvaluator`, like `checks`.
        checks: Whether the checks are made.
        seed: Seed of the attacks.
        progress: Whether to show a progress bar.

    Returns:
        Plain JSON values: ``clean`` and a list ``attacks``, each with ``metrics`` and ``margins`` by channel, the
        goal's ``measure`` before and after, and ``flags``; ``outcome`` is what comparing it with others needs
        (:class:`~mmgraph_robust.attacks.checks.Outcome`).
    """
    if attacks is None:
        names = model.modalities or tuple(modalities(data))
        attacks = [(suite("standard"), threat) for threat in expand(ThreatModel(names))] if names else []
    evaluator = RobustnessEvaluator(
        model, data, split=split, k=k, mask_validation=mask_validation, per_user=per_user, checks=checks, seed=seed
    )
    bar = tqdm(attacks, desc="attacks", disable=not progress, leave=False)
    entries = [evaluator(attack, threat, progress) for attack, threat in bar]
    if evaluator.checks:
        for entry, flags in zip(entries, compare([Outcome(**e["outcome"]) for e in entries]), strict=True):
            entry["flags"] |= flags
    return {"clean": evaluator.clean, "attacks": entries}


def _outcome(attack: Attack, threat: ThreatModel, setting: str, entry: dict[str, Any]) -> Outcome:
    (measured,) = entry["measure"].values()
    sign = 1.0 if threat.goal.rises else -1.0
    arguments = attack.describe()
    steps = arguments.pop("steps", 0)
    return Outcome(
        name=repr(attack),
        kind=_kind(attack, threat),
        setting=setting,
        budget=threat.budget,
        clean=measured["clean"],
        gain=sign * (measured["attacked"] - measured["clean"]),
        family=hash_json([arguments, threat.knowledge, threat.queries]),
        steps=steps if isinstance(steps, int) else 0,
    )


def _kind(attack: Attack, threat: ThreatModel) -> Kind:
    """What the attack had of the victim: a suite without gradients is a black box, whatever it is with them."""
    without: dict[str, Kind] = {"scores": "black box", "ranks": "black box", "transfer": "transfer"}
    return without.get(threat.knowledge, attack.kind) if attack.kind == "iterated" else attack.kind


def find_sensitive(
    model: Recommender,
    data: HeteroData,
    *,
    attack: Attack | None = None,
    budget: float = 0.05,
    metric: str = "recall@20",
    seed: int = 0,
) -> dict[str, Any] | None:
    r"""Which modality an attack hurts most, judged on the validation split.

    Each modality is attacked alone. ``by_margin`` is the one whose own score margin falls by the largest part,
    :math:`(SM_m - SM_m') / |SM_m|`; ``by_metric`` the one that costs the metric most.

    Args:
        model: A trained, undefended model.
        data: The clean data.
        attack: The attack (default: ten steps of :class:`~mmgraph_robust.attacks.GraphRelaxation`, which is
            :class:`~mmgraph_robust.attacks.PGD` where there is no graph of items).
        budget: Its budget, relative and per item.
        metric: The metric of ``by_metric``.
        seed: Seed of the attack.

    Returns:
        ``by_margin`` and ``by_metric``, with the numbers under ``margin_decline`` and ``metric_decline``; None for a
        model whose score no feature reaches, whose metric is zero on the clean data, so that nothing can be lost, or
        of which the attack took nothing.

    Raises:
        ConfigError: If the metric is unknown.
    """
    cutoff = cutoff_of(metric)
    if model.feature_path == "none" or not model.modalities:
        return None
    goal = Untargeted(k=cutoff)
    attacks = [
        (attack or GraphRelaxation(steps=10), ThreatModel([m], budget, labels="val", goal=goal))
        for m in model.modalities
    ]
    outcome = robustness(model, data, attacks, split="val", k=[cutoff], checks=False, seed=seed, progress=False)
    clean = outcome["clean"]
    attacked = {
        m: (e["metrics"][metric], e["margins"]) for m, e in zip(model.modalities, outcome["attacks"], strict=True)
    }
    return sensitivity(clean["metrics"][metric], clean["margins"], attacked)


def sensitivity(
    metric: float, margins: dict[str, float], attacked: dict[str, tuple[float, dict[str, float]]]
) -> dict[str, Any] | None:
    """What :func:`find_sensitive` returns.

    Args:
        metric: The clean metric.
        margins: The clean score margins by channel.
        attacked: Metric and margins under the attack on each modality alone.
    """
    if not attacked:
        return None
    if metric == 0:
        _LOG.warning("nothing is found on the clean data: no modality can be told sensitive")
        return None
    by_margin: dict[str, float] = {}
    by_metric: dict[str, float] = {}
    for modality, (value, after) in attacked.items():
        # A model of one's own may not have a channel for every modality that it reads.
        before = margins.get(modality, 0.0)
        by_margin[modality] = (before - after.get(modality, 0.0)) / max(abs(before), 1e-12)
        by_metric[modality] = 1 - value / metric
    if max(*by_metric.values(), *by_margin.values()) <= 0:
        _LOG.warning("the attack took nothing in any modality: none can be told sensitive")
        return None
    return {
        "by_margin": max(by_margin, key=by_margin.__getitem__),
        # Where no list changed, margins tell.
        "by_metric": max(by_metric, key=lambda m: (by_metric[m], by_margin[m])),
        "margin_decline": by_margin,
        "metric_decline": by_metric,
    }


def graph_policies(
    model: Recommender,
    data: HeteroData,
    threat: ThreatModel,
    attacks: Sequence[Attack] | None = None,
    *,
    split: Literal["val", "test"] = "test",
    k: Sequence[int] = (10, 20),
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Every attack under both policies of the item graph, side by side.

    Under ``"frozen"`` the attacker comes after the graph was built; a model that only its graph connects to the
    features cannot change there, whatever it is worth. Under ``"rebuilt"`` the graph follows his features, and a plain
    gradient attack may still be blind to it. Neither alone says that a model is robust.

    Args:
        model: A model, with an item graph or without.
        data: The clean data.
        threat: What is allowed; its own policy plays no part.
        attacks: What to run (default: noise, PGD, the relaxation, and the swaps that go on from it).
        split: The split to evaluate on.
        k: Cut-offs.
        seed: Seed of the attacks.
        progress: Whether to show a progress bar.

    Returns:
        Plain JSON values: ``clean`` metrics, ``attacks`` with the metrics, objectives and flags of ``frozen`` and
        ``rebuilt`` for each, and ``worst`` with the lowest value of each metric under each policy.
    """
    if attacks is None:
        attacks = [
            Noise(),
            PGD(),
            GraphRelaxation(),
            *([NeighbourSwap(start=GraphRelaxation())] if model.knn_k else []),
        ]
    policies: tuple[Literal["frozen", "rebuilt"], ...] = ("frozen", "rebuilt")
    runs = [(attack, replace(threat, graph=policy)) for attack in attacks for policy in policies]
    outcome = robustness(model, data, runs, split=split, k=k, seed=seed, progress=progress)
    entries = []
    for index in range(len(attacks)):
        both = dict(zip(policies, outcome["attacks"][2 * index : 2 * index + 2], strict=True))
        entry: dict[str, Any] = {"attack": both["frozen"]["attack"], "arguments": both["frozen"]["arguments"]}
        for policy, found in both.items():
            entry[policy] = {key: found[key] for key in ("metrics", "objective", "flags", "seconds")}
        entries.append(entry)
    clean = outcome["clean"]["metrics"]
    worst = {
        # Nobody has to attack.
        policy: {name: min(value, *(e[policy]["metrics"][name] for e in entries)) for name, value in clean.items()}
        for policy in policies
    }
    return {"clean": clean, "attacks": entries, "worst": worst}
