import math
from statistics import fmean, stdev

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import OBJECTIVES, Hide, Problem, Promote, ThreatModel, objectives, pick_items
from mmgraph_robust.models import Embeddings


def objective(name, data, **kwargs):
    pairs = mr.data.interactions(data, "test")
    return pairs, OBJECTIVES[name](pairs, mr.Graph.from_data(data), **kwargs)


def embeddings(data, seed=0):
    g = torch.Generator().manual_seed(seed)
    users, items = data["user"].num_nodes, data["item"].num_nodes
    return Embeddings({"id": torch.randn(users, 4, generator=g)}, {"id": torch.randn(items, 4, generator=g)})


def scores_of(e):
    return e.user["id"] @ e.item["id"].t()


def orders(data, e, users):
    """The items that each user has not had, the best first."""
    scores, train = scores_of(e), mr.data.interactions(data, "train")
    result = {}
    for user in users.unique().tolist():
        had = set(train[1][train[0] == user].tolist())
        result[user] = [i for i in scores[user].argsort(descending=True).tolist() if i not in had]
    return result


def boundary_margins(data, e, pairs, k):
    """By how much each pair surpasses the item at rank `k` that is none of the user's own: a list per user."""
    scores, order = scores_of(e), orders(data, e, pairs[0])
    result = {}
    for user, item in pairs.t().tolist():
        own = pairs[1][pairs[0] == user].tolist()
        rival = next(j for rank, j in enumerate(order[user], 1) if rank >= k and j not in own)
        result.setdefault(user, []).append(float(scores[user, item] - scores[user, rival]))
    return result


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


@pytest.mark.parametrize("promote", [False, True])
def test_boundary_equals_a_loop(shop, promote):
    """Also later, when the scale is still that of the first call."""
    pairs, value = objective("boundary", shop, k=5, promote=promote)
    temperature = None
    for seed in (0, 1):
        e = embeddings(shop, seed)
        margins = [margin for of_user in boundary_margins(shop, e, pairs, 5).values() for margin in of_user]
        temperature = stdev(margins) if temperature is None else temperature
        if promote:
            expected = fmean(1 / (1 + math.exp(-margin / temperature)) for margin in margins)
        else:
            expected = -fmean(temperature * math.log1p(math.exp(margin / temperature)) for margin in margins)
        assert float(value(e, exact=True)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("promote", [False, True])
def test_recall_equals_a_loop(shop, promote):
    """Also later, when the scale is still that of the first call; every user counts alike."""
    pairs, value = objective("recall", shop, k=5, promote=promote)
    temperature = None
    for seed in (0, 1):
        e = embeddings(shop, seed)
        margins = boundary_margins(shop, e, pairs, 5)
        if temperature is None:
            temperature = stdev([margin for of_user in margins.values() for margin in of_user])
        shares = [
            fmean(0.5 + math.atan(x / (c * temperature)) / math.pi for x in of_user for c in (0.3, 0.1, 0.03))
            for of_user in margins.values()
        ]
        assert float(value(e, exact=True)) == pytest.approx(fmean(shares) if promote else -fmean(shares), abs=1e-5)
    assert len({len(of_user) for of_user in margins.values()}) > 1


@pytest.mark.parametrize("kind", ["VBPR", "GRCN"])
def test_what_aims_at_the_list_takes_more_of_the_recall(shop, kind):
    """At a small budget, whatever else is maximised."""
    model = getattr(mr.models, kind).from_data(shop, embedding_dim=8)
    mr.fit(model, shop, max_epochs=15, batch_size=256, learning_rate=0.01, progress=False)
    threat = ThreatModel(["visual", "textual"], 0.1)
    left = {
        name: mr.attacks.APGD(30, objective=name)(model, shop, threat).after["recall@20"]
        for name in ("recall", "ndcg", "boundary", "margin", "bpr")
    }
    assert left["recall"] == min(left.values())
    assert mr.attacks.APGD().objective == "recall"


@pytest.mark.parametrize("promote", [False, True])
def test_ndcg_equals_a_loop(shop, promote, monkeypatch):
    """Also in blocks of a few pairs, and later, when the scale is still that of the first call."""
    monkeypatch.setattr(objectives, "_BLOCK_ELEMENTS", 100)
    pairs, value = objective("ndcg", shop, k=5, promote=promote)
    size = value.rivals.size
    assert size < 50
    temperature = None
    for seed in (0, 1):
        e = embeddings(shop, seed)
        scores, order = scores_of(e), orders(shop, e, pairs[0])
        if temperature is None:
            temperature = fmean(float(scores[u, items[:size]].std(correction=0)) for u, items in order.items()) / 2
        gains = []
        for user, item in pairs.t().tolist():
            rank = 1.0
            for other in order[user][:size]:
                if other != item:
                    rank += 1 / (1 + math.exp(float(scores[user, item] - scores[user, other]) / temperature))
            gains.append(1 / math.log2(1 + rank))
        assert float(value(e, exact=True)) == pytest.approx(fmean(gains) if promote else -fmean(gains), abs=1e-5)


@pytest.mark.parametrize("promote", [False, True])
def test_hook_equals_a_loop(shop, promote):
    """The vector of the hook is that of the first call, also when the item has moved since."""
    pairs, value = objective("hook", shop, promote=promote)
    first = embeddings(shop)
    liked = [fmean(column) for column in scores_of(first).t().tolist()]
    hook = first.item["id"][liked.index(max(liked) if promote else min(liked))]
    for e in (first, embeddings(shop, 1)):
        distances = [float((e.item["id"][item] - hook).square().sum()) for item in set(pairs[1].tolist())]
        assert float(value(e)) == pytest.approx(-fmean(distances), rel=1e-5)


@pytest.mark.parametrize(("goal", "extreme"), [(Hide, min), (Promote, max)])
def test_who_hides_items_draws_them_to_the_least_liked(shop, trained, goal, extreme):
    targets = pick_items(shop, 3, "popular")
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], 0.3, goal=goal(targets)), "hook")
    found = mr.evaluation.embed(trained, shop)
    user, item = found.concatenated()
    liked = [fmean((user @ vector).tolist()) for vector in item]
    hook = item[liked.index(extreme(liked))]
    expected = -fmean(float((item[i] - hook).square().sum()) for i in targets)
    assert problem.worth(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["margin", "bpr"])
def test_a_promotion_turns_the_sign(tiny, name):
    e = embeddings(tiny)
    assert float(objective(name, tiny, promote=True)[1](e)) == -float(objective(name, tiny)[1](e)) != 0


def test_lost_pairs_give_no_gradient(shop):
    pairs = mr.data.interactions(shop, "test")
    other = int(((pairs[0] != pairs[0, 0]) & (pairs[1] != pairs[1, 0])).nonzero()[0])
    (lost, kept), (gone, held) = pairs[:, [0, other]].tolist()
    value = OBJECTIVES["boundary"](pairs[:, [0, other]], mr.Graph.from_data(shop), k=5)
    e = embeddings(shop)
    user, item = e.user["id"], e.item["id"]
    item[held] = 10 * user[kept]
    value(e)
    item[gone] = -1e6 * user[lost]
    leaves = user.clone().requires_grad_(), item.clone().requires_grad_()
    by_user, by_item = torch.autograd.grad(value(Embeddings({"id": leaves[0]}, {"id": leaves[1]})), leaves)
    assert by_user[kept].any()
    assert by_item[held].any()
    assert not by_user[lost].any()
    assert not by_item[gone].any()


def test_every_objective_is_one_and_a_bare_one_has_no_value(tiny):
    from mmgraph_robust.attacks import Objective

    for name in OBJECTIVES:
        assert isinstance(objective(name, tiny)[1], Objective)
    pairs = mr.data.interactions(tiny, "test")
    bare = Objective(pairs, mr.Graph.from_data(tiny))
    with pytest.raises(NotImplementedError):
        bare(embeddings(tiny))
