"""What an attack does to a model: to whom, through which modality, and how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import (
    Attack,
    GraphProblem,
    GraphRelaxation,
    MinimalBudget,
    Problem,
    ThreatModel,
    Untargeted,
)
from mmgraph_robust.attacks.base import untouched
from mmgraph_robust.attacks.victim import frozen, graph_under
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import NegativeSampler
from mmgraph_robust.data.schema import INTERACTS, with_features
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.evaluation.ranking import Evaluator, embed
from mmgraph_robust.evaluation.robustness import sensitivity
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.utils import child_generator, chunks

# At a time: vectors of all triples at once would take gigabytes.
_TRIPLES = 1 << 17


def diagnose(
    model: Recommender,
    data: HeteroData,
    *,
    attack: Attack | None = None,
    minimal: MinimalBudget | None = None,
    budget: float = 0.05,
    k: int = 20,
    split: Literal["val", "test"] = "test",
    groups: int = 4,
    seed: int = 0,
) -> dict[str, Any]:
    """What an attack does to a model: each modality alone, and all jointly.

    Args:
        model: The model.
        data: The clean data.
        attack: The attack (default: twenty steps of :class:`~mmgraph_robust.attacks.GraphRelaxation`, which is
            :class:`~mmgraph_robust.attacks.PGD` where there is no graph of items).
        minimal: Searches the smallest budgets that drop a hit, up to ten times `budget`; off by default, since it costs
            some attacks for each set of modalities.
        budget: The attack's budget, relative and per item.
        k: Length of the lists.
        split: The split to evaluate on; the attacker knows its positives.
        groups: Number of groups of users by activity and of items by popularity.
        seed: Seed of the attack and of the sampled negatives.

    Returns:
        Plain JSON values.

        - ``clean``: ``recall`` and score ``margins`` by channel.
        - ``attacks``: for each set of modalities the same, with ``flip_rate`` (see :func:`flip_rate`), ``flags``, and
          who is hit: ``users`` and ``items``, see :func:`hit_groups`; with `minimal`, ``minimal_budgets``, see
          :func:`summarize_budgets` (:obj:`None` where there is no hit), and ``minimal_flags``, that search's own.
        - ``sensitive``: what :func:`~mmgraph_robust.evaluation.find_sensitive` returns, from these attacks.
        - ``gradients``: see :func:`gradient_health`.
        - ``carries``: see :func:`modality_shares`.
    """
    attack = attack or GraphRelaxation(steps=20)
    evaluator = Evaluator(data, split, [k], ["recall"])
    clean = embed(model, data)
    recall, margins = evaluator(clean)[f"recall@{k}"], evaluator.margins(clean)
    sets = [[m] for m in model.modalities] + ([list(model.modalities)] if len(model.modalities) > 1 else [])
    entries: list[dict[str, Any]] = []
    for names in sets:
        threat = ThreatModel(names, budget, labels=split, goal=Untargeted(k=k))
        immune = model.feature_path == "none"
        outcome = untouched(model, data, threat) if immune else attack(model, data, threat, seed=seed)
        attacked = embed(model, outcome.data)
        users, items = hit_groups(data, clean, attacked, k=k, split=split, groups=groups)
        entries.append(
            {
                "modalities": names,
                "recall": evaluator(attacked)[f"recall@{k}"],
                "margins": evaluator.margins(attacked),
                "flip_rate": flip_rate(data, clean, attacked, split=split, seed=seed),
                "users": users,
                "items": items,
                "flags": outcome.flags,
            }
        )
        if minimal is not None and not immune:
            least = minimal(model, data, replace(threat, budget=10 * budget), seed=seed)
            budgets = least.details["budget"]
            entries[-1]["minimal_budgets"] = summarize_budgets(budgets) if budgets.numel() else None
            entries[-1]["minimal_flags"] = least.flags
    alone = {e["modalities"][0]: (e["recall"], e["margins"]) for e in entries if len(e["modalities"]) == 1}
    objective = attack.objective_for(ThreatModel(sets[-1])) if sets else attack.objective
    return {
        "budget": budget,
        "attack": attack.describe(),
        "clean": {"recall": recall, "margins": margins},
        "attacks": entries,
        "sensitive": None if model.feature_path == "none" else sensitivity(recall, margins, alone),
        "gradients": gradient_health(model, data, objective=objective, k=k, split=split, seed=seed),
        "carries": modality_shares(model, data, k=k, split=split),
    }


def hit_groups(
    data: HeteroData,
    clean: Embeddings,
    attacked: Embeddings,
    *,
    k: int = 20,
    split: Literal["val", "test"] = "test",
    groups: int = 4,
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Who is hit: users by activity, and items by popularity, in quantiles of training interactions.

    Args:
        data: The clean data.
        clean: The model's embeddings on it.
        attacked: Those on the attacked data.
        k: Length of the lists.
        split: The split to evaluate on.
        groups: Number of groups; groups that would be alike are joined.

    Returns:
        Per group, from the least to the most active or popular: ``from`` and ``to`` (training interactions),
        ``size``, and ``clean`` and ``attacked``: the recall of the users, and for items the share of their relevant
        pairs that stand in the lists.
    """
    evaluator = Evaluator(data, split, [k], ["recall"])
    name = f"recall@{k}"
    before, after = evaluator.per_user(clean)[name], evaluator.per_user(attacked)[name]
    users = _groups(evaluator.seen.degree()[evaluator.users], before, after, groups)
    found = [evaluator.found(evaluator.lists(embeddings)).double() for embeddings in (clean, attacked)]
    items = _groups(evaluator.seen.t().degree()[evaluator.pairs[1]], found[0], found[1], groups)
    return users, items


def _groups(size: Tensor, before: Tensor, after: Tensor, groups: int) -> list[dict[str, float]]:
    if groups < 1:
        raise ConfigError(f"'groups' expects a number >= 1 (got {groups})")
    inner = torch.arange(1, groups, dtype=torch.double) / groups
    edges = torch.unique(torch.quantile(size.double(), inner)) if groups > 1 else size.new_empty(0).double()
    # A value on an edge belongs below it.
    group = torch.bucketize(size.double(), edges)
    result = []
    for index in torch.unique(group).tolist():
        mine = group == index
        result.append(
            {
                "from": int(size[mine].min()),
                "to": int(size[mine].max()),
                "size": int(mine.sum()),
                "clean": float(before[mine].mean()),
                "attacked": float(after[mine].mean()),
            }
        )
    return result


def flip_rate(
    data: HeteroData,
    clean: Embeddings,
    attacked: Embeddings,
    *,
    split: Literal["val", "test"] = "test",
    negatives: int = 10,
    seed: int = 0,
) -> float:
    """Share of the (user, positive, negative) triples in the right order whose order an attack turns.

    Args:
        data: The clean data.
        clean: The model's embeddings on it.
        attacked: Those on the attacked data.
        split: The split of the positives.
        negatives: Items that are drawn for each positive, out of those with training interactions, each as often; what
            the user liked, in whatever split, is left out.
        seed: Seed of the draw.
    """
    evaluator = Evaluator(data, split, [1], ["recall"])
    pairs = evaluator.pairs.repeat(1, negatives)
    drawn = NegativeSampler(Graph.from_data(data).to("cpu")).sample(pairs[0], child_generator(seed, "flips"))
    width = evaluator.relevant.num_cols
    liked = data[INTERACTS].edge_index.cpu()
    kept = ~torch.isin(pairs[0] * width + drawn, liked[0] * width + liked[1])
    triples = torch.stack([*pairs, drawn])[:, kept]
    vectors = [tuple(x.cpu() for x in embeddings.concatenated()) for embeddings in (clean, attacked)]
    right, turned = 0, 0
    for start, stop in chunks(triples.size(1), _TRIPLES):
        user, positive, negative = triples[:, start:stop]
        before, after = ((u[user] * (i[positive] - i[negative])).sum(1) > 0 for u, i in vectors)
        right += int(before.sum())
        turned += int((before & ~after).sum())
    return turned / max(right, 1)


def gradient_health(
    model: Recommender,
    data: HeteroData,
    *,
    objective: str = "recall",
    k: int = 20,
    split: Literal["train", "val", "test"] = "test",
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Whether gradient attacks can see: per modality, at the clean features.

    Args:
        model: The model.
        data: The clean data.
        objective: What an attacker would maximise.
        k: Length of the lists that he means.
        split: The split whose positives he knows.
        seed: Seed of the objective.

    Returns:
        Per modality ``zero_share``, the share of items, among those that have the feature, whose own gradient is
        exactly zero; ``norm``, the gradient's Frobenius norm; ``gain``, that norm times the features' norm, which
        compares modalities of different scale: by how much the objective would grow, to first order, under a change of
        100 %; and ``zero_share_through_graph``, with a soft choice of neighbours (the same where there is no item
        graph). A modality whose gain is smaller by orders hides what an attack on all jointly could do there.
    """
    if not model.modalities or model.feature_path == "none":
        return {}
    threat = ThreatModel(list(model.modalities), labels=split, goal=Untargeted(k=k))
    result = {}
    with frozen(model):
        problem = Problem.from_data(model, data, threat, objective, seed)
        _, plain = problem.value_and_gradient(problem.zero())
        _, soft = GraphProblem(problem).value_and_gradient(problem.zero())
    for name, gradient in plain.items():
        norm = float(gradient.double().norm())
        result[name] = {
            "zero_share": _zero_share(gradient, problem.features[name]),
            "norm": norm,
            "gain": norm * float(problem.features[name].double().norm()),
            "zero_share_through_graph": _zero_share(soft[name], problem.features[name]),
        }
    return result


def _zero_share(gradient: Tensor, x: Tensor) -> float:
    there = gradient[x.bool().any(1)]
    return float((~there.any(1)).double().mean()) if there.numel() else 0.0


def modality_shares(
    model: Recommender, data: HeteroData, *, k: int = 20, split: Literal["val", "test"] = "test"
) -> dict[str, dict[str, float]]:
    """How much of the ranking each modality carries: what is lost without it.

    Args:
        model: The model.
        data: The clean data.
        k: Length of the lists.
        split: The split to evaluate on.

    Returns:
        Per modality ``clean``, the recall with everything; ``mean_features``, that with every item's features replaced
        by the catalogue's mean, item graphs rebuilt (the model may still use the modality's constant part);
        ``permuted_features``, that with the items' features dealt out among them anew, always alike: permutation
        importance (`"Random Forests" <https://doi.org/10.1023/A:1010933404324>`_, Breiman 2001), which a model cannot
        inflate by failing on features that no item has; ``without_channel``, that of the scores without the modality's
        channel (missing where it has none); and ``only_channel``, that of the channel's scores alone.
    """
    evaluator = Evaluator(data, split, [k], ["recall"])
    name = f"recall@{k}"
    embeddings = embed(model, data)
    clean = evaluator(embeddings)[name]
    result = {}
    for modality in model.modalities:
        x = features_of(data, [modality])[modality]
        order = torch.randperm(x.size(0), generator=child_generator(0, "modality_shares")).to(x.device)
        mean = x.mean(0, keepdim=True).expand_as(x).contiguous()
        graph = graph_under(model, data, ThreatModel([modality]))
        entry = {"clean": clean}
        for key, changed in (("mean_features", mean), ("permuted_features", x[order])):
            entry[key] = evaluator(embed(model, with_features(data, {modality: changed}), graph))[name]
        rest = [c for c in embeddings.channels if c != modality]
        if modality in embeddings.channels:
            entry["only_channel"] = evaluator(embeddings.subset([modality]))[name]
            if rest:
                entry["without_channel"] = evaluator(embeddings.subset(rest))[name]
        result[modality] = entry
    return result


def summarize_budgets(budgets: Tensor, quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)) -> dict[str, Any]:
    """The distribution of the smallest budgets that drop a hit.

    Args:
        budgets: ``[n]`` one for each hit, in any unit; infinite where none was found. Upper bounds from a
            minimal-budget attack, or lower bounds from :attr:`Certificate.largest`.
        quantiles: Which quantiles.

    Returns:
        ``count``, ``unbroken`` (share of infinite ones), and ``quantiles`` by name, :obj:`None` where it is infinite.

    Raises:
        DataError: If there are none, or one is negative or NaN.
    """
    if budgets.numel() == 0 or bool(torch.isnan(budgets).any()) or bool((budgets < 0).any()):
        raise DataError("'budgets' expects one or more numbers >= 0, infinite where no budget sufficed")
    ordered = budgets.double().flatten().sort().values
    values = {}
    for q in quantiles:
        # The empirical quantile: no mean of a finite and an infinite budget.
        value = float(ordered[max(0, math.ceil(q * ordered.numel()) - 1)])
        values[f"{q:g}"] = value if math.isfinite(value) else None
    return {
        "count": ordered.numel(),
        "unbroken": float(torch.isinf(ordered).double().mean()),
        "quantiles": values,
    }
