import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks.rivals import Rivals


def vectors(seed, users=120, items=80, dim=4):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(users, dim, generator=g), torch.randn(items, dim, generator=g)


def test_rivals_are_the_best_unseen_items_scored_now(shop):
    graph = mr.Graph.from_data(shop)
    users = torch.tensor([3, 7, 50])
    rivals = Rivals(users, graph.interactions, 10)
    user, item = vectors(0)
    known, scores = rivals(user, item)
    dense = user @ item.t()
    for row, u in enumerate(users.tolist()):
        had = graph.interactions.col[graph.interactions.rowptr[u] : graph.interactions.rowptr[u + 1]].long()
        free = dense[u].clone()
        free[had] = -torch.inf
        assert set(known[row].tolist()) == set(free.topk(10).indices.tolist())
        assert torch.allclose(scores[row], dense[u][known[row]], atol=1e-5)
    other, moved = vectors(1)
    kept, now = rivals(other, moved)
    assert torch.equal(kept, known)
    assert torch.allclose(now[0], (other @ moved.t())[3][kept[0]], atol=1e-5)
    assert not torch.equal(rivals(other, moved, renew=True)[0], known)


def test_the_catalogue_is_ranked_in_ever_longer_intervals(shop, monkeypatch):
    ranked = []
    rivals = Rivals(torch.arange(120), mr.Graph.from_data(shop).interactions, 10, longest=8)
    renew = rivals._renew
    monkeypatch.setattr(rivals, "_renew", lambda *a: (ranked.append(len(called)), renew(*a)))
    called = []
    for call in range(40):
        rivals(*vectors(0))
        called.append(call)
    assert ranked == [0, 4, 12, 20, 28, 36]


def test_a_user_without_enough_candidates_is_padded():
    data = mr.data.build(torch.tensor([[0, 0, 1], [0, 1, 2]]), torch.zeros(3, dtype=torch.long), {}, num_items=3)
    user, item = vectors(0, 2, 3)
    known, scores = Rivals(torch.arange(2), mr.Graph.from_data(data).interactions, 3)(user, item)
    assert (known[0] >= 0).sum() == 1
    assert torch.equal(torch.isinf(scores), known < 0)


def test_lists_are_kept_for_as_long_as_asked_and_forgotten(shop, monkeypatch):
    graph = mr.Graph.from_data(shop)
    for longest, expected in ((1, [0, 1, 2, 3, 4, 5]), (8, [0, 4])):
        rivals, ranked = Rivals(torch.arange(120), graph.interactions, 10, longest=longest), []
        renew = rivals._renew
        monkeypatch.setattr(rivals, "_renew", lambda *a, r=renew, n=ranked, c=rivals: (n.append(c.calls), r(*a)))
        for rivals.calls in range(6):
            rivals(*vectors(0))
        assert ranked == expected
        rivals.forget()
        for rivals.calls in range(6, 12):
            rivals(*vectors(0))
        assert ranked[len(expected) :] == [6 + n for n in expected]
