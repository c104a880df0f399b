import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from mmgraph_robust.errors import ConfigError, DataError, NonFiniteError
from mmgraph_robust.metrics import cutoff_of, hits, rank_items, ranking, ranking_metrics, score_margins
from mmgraph_robust.models import Embeddings
from mmgraph_robust.sparse import Adjacency


def world(seed=0, users=30, items=40, dim=4):
    g = torch.Generator().manual_seed(seed)
    user, item = torch.randn(users, dim, generator=g), torch.randn(items, dim, generator=g)
    kind = torch.randint(0, 10, (users, items), generator=g)
    seen, truth = (kind < 3).nonzero().t(), (kind == 9).nonzero().t()
    size = {"num_rows": users, "num_cols": items}
    return user, item, Adjacency.from_edge_index(seen, **size), Adjacency.from_edge_index(truth, **size)


def naive(user, item, seen, truth, k):
    scores = (user @ item.t()).numpy().copy()
    banned, wanted = seen.to_dense().numpy() > 0, truth.to_dense().numpy() > 0
    scores[banned] = -np.inf
    out = {name: [] for name in ranking.METRICS}
    for u in range(len(scores)):
        relevant = set(np.flatnonzero(wanted[u]))
        if not relevant:
            continue
        order = [i for i in sorted(range(scores.shape[1]), key=lambda i: (-scores[u, i], i)) if not banned[u, i]][:k]
        h = [i in relevant for i in order]
        out["recall"].append(sum(h) / len(relevant))
        out["precision"].append(sum(h) / k)
        out["hit_rate"].append(float(any(h)))
        ideal = sum(1 / np.log2(r + 2) for r in range(min(k, len(relevant))))
        out["ndcg"].append(sum(1 / np.log2(r + 2) for r, x in enumerate(h) if x) / ideal)
        out["map"].append(sum(sum(h[: r + 1]) / (r + 1) for r, x in enumerate(h) if x) / min(k, len(relevant)))
    return {name: float(np.mean(v)) for name, v in out.items()}


def ours(user, item, seen, truth, k):
    users = truth.degree().nonzero().flatten()
    lists = rank_items(user, item, users, seen, max(k))
    return lists, users, ranking_metrics(hits(lists, users, truth), truth.degree()[users], k)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_naive_loop(seed):
    case = world(seed)
    _, _, got = ours(*case, k=[5, 20])
    for k in (5, 20):
        for name, value in naive(*case, k).items():
            assert float(got[f"{name}@{k}"].mean()) == pytest.approx(value, abs=1e-9)


def test_equals_pyg_on_the_same_lists():
    user, item, seen, truth = world(7)
    lists, users, got = ours(user, item, seen, truth, [10])
    position = torch.full((30,), -1)
    position[users] = torch.arange(users.numel())
    edges = truth.edge_index()
    pairs = torch.stack([position[edges[0]], edges[1]])
    theirs = {
        "recall": LinkPredRecall, "ndcg": LinkPredNDCG, "precision": LinkPredPrecision,
        "map": LinkPredMAP, "hit_rate": LinkPredHitRatio,
    }  # fmt: skip
    for name, kind in theirs.items():
        metric = kind(k=10)
        metric.update(lists, pairs)
        assert float(got[f"{name}@10"].mean()) == pytest.approx(float(metric.compute()), abs=1e-5)


def test_padding_is_never_a_hit():
    # One user has seen all but one item; the item before hers in id order is another user's last.
    seen = Adjacency.from_edge_index(torch.tensor([[1, 1], [0, 1]]), num_rows=2, num_cols=3)
    truth = Adjacency.from_edge_index(torch.tensor([[0, 1], [2, 2]]), num_rows=2, num_cols=3)
    lists, users, got = ours(torch.ones(2, 1), torch.tensor([[3.0], [2.0], [1.0]]), seen, truth, [3])
    assert lists.tolist() == [[0, 1, 2], [2, -1, -1]]
    assert got["recall@3"].tolist() == [1.0, 1.0]
    assert not hits(torch.full((2, 3), -1), users, truth).any()


def test_blocks_do_not_change_lists(monkeypatch):
    user, item, seen, _ = world(2)
    whole = rank_items(user, item, torch.arange(30), seen, 7)
    monkeypatch.setattr(ranking, "_BLOCK_ELEMENTS", 80)
    assert torch.equal(whole, rank_items(user, item, torch.arange(30), seen, 7))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_properties(seed, factor):
    user, item, seen, truth = world(seed, users=6, items=12)
    if not bool((truth.degree() > 0).any()):
        return
    _, _, got = ours(user, item, seen, truth, [1, 3, 12])
    for value in got.values():
        assert bool(((value >= 0) & (value <= 1 + 1e-12)).all())
    assert bool((got["recall@1"] <= got["recall@3"]).all())
    # All unseen items listed: everything is found.
    assert torch.allclose(got["recall@12"], torch.ones(1, dtype=torch.double))
    _, _, scaled = ours(user * 2.0 ** round(factor), item, seen, truth, [3])
    assert torch.equal(scaled["ndcg@3"], got["ndcg@3"])


def test_non_finite_scores_and_bad_arguments():
    user, item, seen, _ = world()
    with pytest.raises(NonFiniteError):
        rank_items(user * float("nan"), item, torch.arange(3), seen, 5)
    with pytest.raises(ConfigError, match="recall"):
        ranking_metrics(torch.zeros(1, 5, dtype=torch.bool), torch.ones(1), [5], ["recal"])
    with pytest.raises(ConfigError, match="'k'"):
        ranking_metrics(torch.zeros(1, 5, dtype=torch.bool), torch.ones(1), [6])


def test_ids_of_32_bits_do_not_overflow():
    relevant = Adjacency.from_edge_index(torch.tensor([[60_000], [50_000]]), num_rows=60_001, num_cols=60_000)
    lists, users = torch.tensor([[50_000, 49_999]]), torch.tensor([60_000])
    for kind in (torch.int32, torch.int64):
        assert hits(lists.to(kind), users.to(kind), relevant).tolist() == [[True, False]]


def small(rows, cols):
    return Adjacency.from_edge_index(torch.tensor([[1], [0]]), num_rows=rows, num_cols=cols)


USER, ITEM, EVERYONE, FOUND = torch.ones(2, 3), torch.ones(5, 3), torch.arange(2), torch.zeros(2, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: rank_items(USER, ITEM, EVERYONE, small(2, 7), 3), DataError, "'seen' expects 2 users x 5 items"),
        (lambda: rank_items(USER, ITEM, EVERYONE, small(3, 5), 3), DataError, "'seen'"),
        (
            lambda: rank_items(USER, ITEM, torch.tensor([2]), small(2, 5), 3),
            DataError,
            r"'users' .* 0 to 1 \(got 2 to 2",
        ),
        (lambda: rank_items(USER, ITEM, torch.tensor([-1]), small(2, 5), 3), DataError, "'users'"),
        (lambda: rank_items(USER, ITEM, EVERYONE, small(2, 5), 0), ConfigError, "'k' expects a whole number >= 1"),
        (lambda: rank_items(USER, ITEM, EVERYONE, small(2, 5), 1.5), ConfigError, "'k'"),
        (lambda: hits(torch.tensor([[1]]), EVERYONE, small(2, 5)), DataError, "'lists'"),
        (lambda: hits(torch.tensor([1, 2]), EVERYONE, small(2, 5)), DataError, "'lists'"),
        # In a matrix of two by five, item 5 of user 0 is item 0 of user 1.
        (lambda: hits(torch.tensor([[5]]), torch.tensor([0]), small(2, 5)), DataError, "'lists' .* 0 to 4"),
        (lambda: hits(torch.tensor([[1]]), torch.tensor([2]), small(2, 5)), DataError, "'users'"),
        (lambda: ranking_metrics(FOUND, torch.tensor([0, 1]), [2]), DataError, r"'num_relevant' .* >= 1 \(got 0\)"),
        (lambda: ranking_metrics(FOUND, torch.ones(2), [2]), DataError, "whole numbers"),
        (lambda: ranking_metrics(FOUND, torch.ones(3, dtype=torch.long), [2]), DataError, r"expects \[2\]"),
        (lambda: score_margins(Embeddings({"id": USER}, {"id": ITEM}), torch.zeros(2, 0).long()), DataError, "'pairs'"),
    ],
)
def test_bad_input_names_the_argument(call, error, named):
    with pytest.raises(error, match=named):
        call()


def test_margins_equal_a_loop_and_sum_to_the_margin_of_the_score():
    g = torch.Generator().manual_seed(0)
    e = Embeddings(
        {"id": torch.randn(3, 2, generator=g), "visual": torch.randn(3, 4, generator=g)},
        {"id": torch.randn(5, 2, generator=g), "visual": torch.randn(5, 4, generator=g)},
    )
    pairs = torch.tensor([[0, 1, 2], [4, 0, 1]])
    got = score_margins(e, pairs)
    for channel in e.channels:
        scores = e.user[channel] @ e.item[channel].t()
        expected = sum(float(scores[u, i] - scores[u].mean()) for u, i in pairs.t().tolist()) / 3
        assert got[channel] == pytest.approx(expected, abs=1e-6)


def test_cutoff_of_a_name():
    assert cutoff_of("recall@20") == 20
    for bad in ("recal@20", "recall", "recall@0", "recall@x", "recall@020", "recall@\u0662\u0660"):
        with pytest.raises(ConfigError):
            cutoff_of(bad)
