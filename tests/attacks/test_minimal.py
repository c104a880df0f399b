import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, MinimalBudget, Problem, SingleStep, ThreatModel, Untargeted
from mmgraph_robust.evaluation import Evaluator, certify, embed
from mmgraph_robust.testing import weak_model


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


def test_a_search_without_a_gradient_says_so(tiny, shop):
    model = mr.models.FREEDOM.from_data(tiny, embedding_dim=4, knn_k=3)
    found = MinimalBudget(2, 2, 2)(model, tiny, ThreatModel(["visual"], 0.1, graph="frozen"))
    assert not torch.isfinite(found.details["budget"]).any()
    assert "visual" in found.flags["no_gradient"]
    # Through a graph that is rebuilt it sees, and moves pairs.
    seeing = mr.models.FREEDOM.from_data(shop, embedding_dim=8, knn_k=5)
    mr.fit(seeing, shop, max_epochs=5, learning_rate=0.01, progress=False)
    found = MinimalBudget(2, 8, 2)(seeing, shop, ThreatModel(["visual", "textual"], 0.5))
    assert "no_gradient" not in found.flags
    assert torch.isfinite(found.details["budget"]).any()
    told = mr.evaluation.diagnose(model, tiny, minimal=MinimalBudget(2, 2, 2), split="test")
    assert "no_gradient" not in told["attacks"][0]["flags"] | told["attacks"][0]["minimal_flags"]
    rounding, data = weak_model("RoundedFeatures")
    told = mr.evaluation.diagnose(rounding, data, minimal=MinimalBudget(2, 2, 2), split="test")
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


def test_no_budget_is_below_the_certified_one_and_each_has_moved_its_pair(shop, trained, monkeypatch):
    threat, clean = ThreatModel(["visual"], 0.4), shop["item"].x_visual
    looked, embeddings = [], Problem.embeddings
    monkeypatch.setattr(Problem, "embeddings", lambda p, d: looked.append(d["visual"].clone()) or embeddings(p, d))
    result = MinimalBudget(rounds=4, steps=8)(trained, shop, threat)
    monkeypatch.undo()
    pairs, budget = [tuple(pair) for pair in result.details["pairs"].t().tolist()], result.details["budget"]
    certificate = certify(trained, shop, threat)
    exact = dict(zip(map(tuple, certificate.pairs.t().tolist()), certificate.largest.tolist(), strict=True))
    assert bool((budget >= torch.tensor([exact[pair] for pair in pairs], dtype=torch.double)).all())
    evaluator = Evaluator(shop, "test", [20])
    place = [evaluator.pairs.t().tolist().index(list(pair)) for pair in pairs]
    least = torch.full_like(budget, float("inf"))
    for delta in looked:
        attacked = mr.data.with_features(shop, {"visual": clean + delta})
        moved = ~evaluator.found(evaluator.lists(embed(trained, attacked)))[place]
        least[moved] = least[moved].clamp(max=float((delta.norm(dim=1) / clean.norm(dim=1)).max()))
    found = torch.isfinite(budget)
    assert found.any()
    assert bool((least[found] <= budget[found] * (1 + 1e-4)).all())


def test_of_one_pair_it_is_the_first_budget_tried_above_the_exact_one():
    """One rival, one place: both items move along the user's vector, until they meet."""
    x = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 0.0]])
    data = mr.data.build(torch.tensor([[0, 0], [0, 2]]), torch.tensor([2, 0]), {"visual": x}, num_items=3)
    model = mr.models.VBPR.from_data(data, embedding_dim=2)
    with torch.no_grad():
        model.item_id.zero_()
        model.user.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
        model.projection["visual"].copy_(torch.eye(2))
    result = MinimalBudget(rounds=6, scales=4)(model, data, ThreatModel(["visual"], 0.4, goal=Untargeted(k=1)))
    exact = 0.1 / float(x[0].norm() + x[1].norm())
    tried = [0.4 * 0.5**halved * part for halved in range(6) for part in (1, 7 / 8, 6 / 8, 5 / 8)]
    least = min(budget for budget in tried if budget > exact)
    assert result.details["pairs"].tolist() == [[0], [0]]
    assert result.details["budget"].tolist() == pytest.approx([least])
    assert float(result.delta["visual"][:2].norm(dim=1).div(x[:2].norm(dim=1)).max()) == pytest.approx(least, rel=1e-4)
    assert (result.before, result.after) == ({"recall@1": 1.0}, {"recall@1": 0.0})
    half = mr.data.with_features(data, {"visual": x + 0.5 * result.delta["visual"]})
    assert mr.evaluate(model, half, k=[1])["recall@1"] == 1.0
