"""What a model loses under attack, and in which modality."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.attacks import PGD, Attack, GraphRelaxation, NeighbourSwap, Noise, ThreatModel
from mmgraph_robust.evaluation.ranking import Evaluator, embed
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Recommender

_LOG = logging.getLogger(__name__)


def robustness(
    model: Recommender,
    data: HeteroData,
    attacks: Sequence[tuple[Attack, ThreatModel]],
    *,
    split: Literal["val", "test"] = "test",
    k: Sequence[int] = (10, 20),
    mask_validation: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Quality and score margins, clean and under each attack.

    Every attacked figure comes from a full forward pass on the attacked features.

    Args:
        model: The model.
        data: The clean data.
        attacks: What to run, each under its threat model.
        split: The split to evaluate on.
        k: Cut-offs.
        mask_validation: See :class:`~mmgraph_robust.evaluation.Evaluator`.
        seed: Seed of the attacks.
        progress: Whether to show a progress bar.

    Returns:
        Plain JSON values: ``clean`` and a list ``attacks``, each with ``metrics`` and ``margins`` by channel.
    """
    evaluator = Evaluator(data, split, k, mask_validation=mask_validation)
    embeddings = embed(model, data)
    result: dict[str, Any] = {
        "clean": {"metrics": evaluator(embeddings), "margins": evaluator.margins(embeddings)},
        "attacks": [],
    }
    for attack, threat in tqdm(attacks, desc="attacks", disable=not progress, leave=False):
        outcome = attack(model, data, threat, seed=seed)
        embeddings = embed(model, outcome.data)
        result["attacks"].append(
            {
                "attack": type(attack).__name__,
                "arguments": attack.describe(),
                **threat.describe(),
                "seconds": outcome.seconds,
                "flags": outcome.flags,
                "objective": {
                    "name": attack.objective_for(threat),
                    "clean": outcome.clean_objective,
                    "attacked": outcome.objective,
                },
                "metrics": evaluator(embeddings),
                "margins": evaluator.margins(embeddings),
            }
        )
    return result


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
        attack: The attack (default: ten steps of :class:`~mmgraph_robust.attacks.PGD`).
        budget: Its budget, relative and per item.
        metric: The metric of ``by_metric``.
        seed: Seed of the attack.

    Returns:
        ``by_margin`` and ``by_metric``, with the numbers under ``margin_decline`` and ``metric_decline``; None for a
        model whose score no feature reaches, or whose metric is zero on the clean data, so that nothing can be lost.

    Raises:
        ConfigError: If the metric is unknown.
    """
    cutoff = cutoff_of(metric)
    if model.feature_path == "none" or not model.modalities:
        return None
    attacks = [(attack or PGD(steps=10), ThreatModel([m], budget, labels="val")) for m in model.modalities]
    outcome = robustness(model, data, attacks, split="val", k=[cutoff], seed=seed, progress=False)
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
    by_margin, by_metric = {}, {}
    for modality, (value, after) in attacked.items():
        # A model of one's own may not have a channel for every modality that it reads.
        before = margins.get(modality, 0.0)
        by_margin[modality] = (before - after.get(modality, 0.0)) / max(abs(before), 1e-12)
        by_metric[modality] = 1 - value / metric
    return {
        "by_margin": max(by_margin, key=by_margin.__getitem__),
        "by_metric": max(by_metric, key=by_metric.__getitem__),
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
