"""What a model loses under attack, and in which modality."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.attacks import PGD, Attack, ThreatModel
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
    if clean["metrics"][metric] == 0:
        _LOG.warning("%s is 0 on the validation split: no modality can be told sensitive", metric)
        return None
    by_margin, by_metric = {}, {}
    for modality, entry in zip(model.modalities, outcome["attacks"], strict=True):
        # A model of one's own may not have a channel for every modality that it reads.
        before = clean["margins"].get(modality, 0.0)
        by_margin[modality] = (before - entry["margins"].get(modality, 0.0)) / max(abs(before), 1e-12)
        by_metric[modality] = 1 - entry["metrics"][metric] / clean["metrics"][metric]
    return {
        "by_margin": max(by_margin, key=by_margin.__getitem__),
        "by_metric": max(by_metric, key=by_metric.__getitem__),
        "margin_decline": by_margin,
        "metric_decline": by_metric,
    }
