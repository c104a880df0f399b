import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import NegativeSampler, TripleLoader
from mmgraph_robust.errors import ConfigError, DataError


def test_negatives_are_never_positives_and_uniform_over_the_rest(shop):
    graph = mr.Graph.from_data(shop)
    sampler = NegativeSampler(graph)
    seen = set(map(tuple, mr.data.interactions(shop, "train").t().tolist()))
    user = torch.zeros(20000, dtype=torch.long)
    item = sampler.sample(user, torch.Generator().manual_seed(0))
    candidates = {i for i in range(80) if int(graph.item_degree[i]) > 0 and (0, i) not in seen}
    assert set(item.tolist()) == candidates
    counts = torch.bincount(item)[sorted(candidates)].float()
    expected = 20000 / len(candidates)
    assert float(((counts - expected) ** 2 / expected).sum()) < 2 * len(candidates)
    for batch in TripleLoader(graph, 100).epoch(torch.Generator().manual_seed(1)):
        assert not set(zip(batch.user.tolist(), batch.negative.tolist(), strict=True)) & seen


def test_an_epoch_holds_every_interaction_once_and_its_seed_decides(shop):
    loader = TripleLoader(mr.Graph.from_data(shop), 100)
    batches = list(loader.epoch(torch.Generator().manual_seed(0)))
    assert len(batches) == len(loader)
    assert {len(b) for b in batches[:-1]} == {100}
    pairs = [p for b in batches for p in zip(b.user.tolist(), b.positive.tolist(), strict=True)]
    assert sorted(pairs) == sorted(map(tuple, mr.data.interactions(shop, "train").t().tolist()))
    again = list(loader.epoch(torch.Generator().manual_seed(0)))
    other = list(loader.epoch(torch.Generator().manual_seed(1)))
    assert all(torch.equal(a.negative, b.negative) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(batches[0].user, other[0].user)


def test_a_user_without_a_negative_is_an_error():
    data = mr.data.build(torch.tensor([[0, 0, 1], [0, 1, 0]]), torch.zeros(3), {})
    with pytest.raises(DataError, match=r"users \[0\] interacted with all 2 items"):
        NegativeSampler(mr.Graph.from_data(data))


def test_nothing_to_draw_from_is_told(shop):
    empty = mr.data.build(torch.empty(2, 0, dtype=torch.long), torch.empty(0), {}, num_users=3, num_items=3)
    with pytest.raises(DataError, match="the training split is empty"):
        NegativeSampler(mr.Graph.from_data(empty))
    with pytest.raises(ConfigError, match=r"batch_size >= 1 \(got 0\)"):
        TripleLoader(mr.Graph.from_data(shop), 0)
