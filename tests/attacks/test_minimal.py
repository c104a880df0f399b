import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, MinimalBudget, SingleStep, ThreatModel


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


def test_a_search_without_a_gradient_says_so(tiny):
    model = mr.models.FREEDOM.from_data(tiny, embedding_dim=4, knn_k=3)
    found = MinimalBudget(2, 2, 2)(model, tiny, ThreatModel(["visual"], 0.1))
    assert not torch.isfinite(found.details["budget"]).any()
    assert "visual" in found.flags["no_gradient"]
    told = mr.evaluation.diagnose(model, tiny, attack=PGD(2), minimal=MinimalBudget(2, 2, 2), split="test")
    assert "no_gradient" in told["attacks"][0]["minimal_flags"]


def test_a_search_that_sees_gradients_is_not_called_blind(shop, trained):
    assert "no_gradient" not in MinimalBudget(2, 4, 2)(trained, shop, ThreatModel(["visual"], 0.4)).flags


def test_that_less_is_done_on_purpose_is_no_contradiction(shop, trained):
    threat = ThreatModel(["visual"], 0.4)
    attacks = [(MinimalBudget(4, 8), threat), (SingleStep(), threat), (PGD(20), threat)]
    entries = mr.evaluation.robustness(trained, shop, attacks, checks=True)["attacks"]
    drops = [e["measure"]["recall@20"]["clean"] - e["measure"]["recall@20"]["attacked"] for e in entries]
    assert drops[0] < drops[1]
    assert not {"weaker_than_single_step", "not_growing"} & set(entries[0]["flags"])
