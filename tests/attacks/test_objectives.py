import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import OBJECTIVES
from mmgraph_robust.models import Embeddings


def objective(name, data, **kwargs):
    pairs = mr.data.interactions(data, "test")
    return pairs, OBJECTIVES[name](pairs, mr.Graph.from_data(data), **kwargs)


def embeddings(data, seed=0):
    g = torch.Generator().manual_seed(seed)
    users, items = data["user"].num_nodes, data["item"].num_nodes
    return Embeddings({"id": torch.randn(users, 4, generator=g)}, {"id": torch.randn(items, 4, generator=g)})


def test_margin_equals_a_loop(tiny):
    pairs, value = objective("margin", tiny)
    e = embeddings(tiny)
    scores = e.user["id"] @ e.item["id"].t()
    expected = -sum(float(scores[u, i] - scores[u].mean()) for u, i in pairs.t().tolist()) / pairs.size(1)
    assert abs(float(value(e)) - expected) < 1e-5


def test_bpr_pairs_each_positive_with_an_unseen_item(tiny):
    pairs, value = objective("bpr", tiny)
    seen = {tuple(p) for p in mr.data.interactions(tiny, "train").t().tolist()}
    assert not {(u, i) for u, i in zip(pairs[0].tolist(), value.negative.tolist(), strict=True)} & seen
    e = embeddings(tiny)
    scores = e.user["id"] @ e.item["id"].t()
    expected = torch.nn.functional.softplus(scores[pairs[0], value.negative] - scores[pairs[0], pairs[1]]).mean()
    assert torch.allclose(value(e), expected, atol=1e-6)


def test_the_rival_stands_at_the_boundary(shop):
    pairs, value = objective("boundary", shop, k=5)
    e = embeddings(shop)
    rivals = value._boundary(e.user["id"], e.item["id"])
    scores = e.user["id"] @ e.item["id"].t()
    train, test = mr.data.interactions(shop, "train"), pairs
    for user, rival in zip(value.users.tolist(), rivals.tolist(), strict=True):
        banned = set(train[1][train[0] == user].tolist())
        positive = set(test[1][test[0] == user].tolist())
        order = [i for i in scores[user].argsort(descending=True).tolist() if i not in banned]
        assert rival == next(i for rank, i in enumerate(order) if rank >= 4 and i not in positive)


def test_lost_positives_give_no_gradient(shop):
    pairs, value = objective("boundary", shop, k=5)
    e = embeddings(shop)
    value(e)
    user, item = int(pairs[0, 0]), int(pairs[1, 0])
    moved = e.item["id"].clone()
    moved[item] = -1e3 * e.user["id"][user]
    leaf = moved.requires_grad_()
    loss = value(Embeddings(e.user, {"id": leaf}))
    assert torch.isfinite(loss)


def test_every_objective_is_one_and_a_bare_one_has_no_value(tiny):
    from mmgraph_robust.attacks import Objective

    for name in OBJECTIVES:
        assert isinstance(objective(name, tiny)[1], Objective)
    pairs = mr.data.interactions(tiny, "test")
    bare = Objective(pairs, mr.Graph.from_data(tiny))
    with pytest.raises(NotImplementedError):
        bare(embeddings(tiny))


def test_the_search_space_is_a_problem(shop, trained):
    seen = []

    class Look(mr.attacks.Attack):
        def run(self, problem, generator, progress):
            seen.append(problem)
            assert isinstance(problem, mr.attacks.Problem)
            value, gradient = problem.value_and_gradient(problem.zero())
            assert abs(value - problem.value(problem.zero())) < 1e-5
            # Finite differences along the gradient agree with it.
            step = {m: 1e-2 * g / g.norm() for m, g in gradient.items()}
            rise = (problem.value(step) - problem.value({m: -d for m, d in step.items()})) / 2
            expected = float(sum((g * step[m]).sum() for m, g in gradient.items()))
            assert abs(rise - expected) < 0.1 * abs(expected)
            return problem.zero()

    Look()(trained, shop, mr.attacks.ThreatModel(["visual"], 0.5))
    assert len(seen) == 1
