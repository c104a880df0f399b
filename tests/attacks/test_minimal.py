import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import MinimalBudget, ThreatModel


def test_minimal_budgets_are_enough_and_half_of_them_is_often_not(shop, trained):
    threat = ThreatModel(["visual"], 0.4)
    result = MinimalBudget(rounds=4, steps=8)(trained, shop, threat)
    pairs, least = result.details["pairs"], result.details["budget"]
    embeddings = mr.evaluation.embed(trained, shop)
    evaluator = mr.evaluation.Evaluator(shop, "test", [20])
    lists = dict(zip(evaluator.users.tolist(), evaluator.lists(embeddings).tolist(), strict=True))
    assert all(item in lists[user] for user, item in pairs.t().tolist())
    hits = sum(i in lists[u] for u, i in mr.data.interactions(shop, "test").t().tolist())
    assert pairs.size(1) == hits
    found = torch.isfinite(least)
    assert found.double().mean() > 0.5
    assert bool((least[found] <= 0.4 + 1e-9).all())
    assert len(least[found].unique()) > 3
    # The returned perturbation drops about half of what falls at all, with less than the whole budget.
    size = (result.delta["visual"].norm(dim=1) / shop["item"].x_visual.norm(dim=1)).max()
    assert float(size) < 0.39
    attacked = dict(zip(evaluator.users.tolist(),
                        evaluator.lists(mr.evaluation.embed(trained, result.data)).tolist(), strict=True))  # fmt: skip
    dropped = sum(i not in attacked[u] for u, i in pairs.t().tolist())
    assert dropped >= 0.4 * int(found.sum())
