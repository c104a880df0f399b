import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.evaluation import Evaluator, evaluate


def test_masks_and_an_oracle(shop):
    users, items = shop["user"].num_nodes, shop["item"].num_nodes
    splits = {s: mr.data.interactions(shop, s) for s in ("train", "val", "test")}
    # Loves validation items most, then test items; training items are masked whatever their score.
    scores = torch.zeros(users, items)
    for name, value in (("train", 3.0), ("val", 2.0), ("test", 1.0)):
        scores[splits[name][0], splits[name][1]] = value
    oracle = mr.Embeddings({"id": torch.eye(users)}, {"id": scores.t().contiguous()})
    most = int(torch.bincount(splits["test"][0]).max())
    masked = Evaluator(shop, "test", [most], mask_validation=True)(oracle)
    open_ = Evaluator(shop, "test", [most], mask_validation=False)(oracle)
    assert masked[f"recall@{most}"] == 1.0
    assert masked[f"ndcg@{most}"] == pytest.approx(1.0)
    assert open_[f"ndcg@{most}"] < 1.0
    assert Evaluator(shop, "val", [most])(oracle)[f"recall@{most}"] == 1.0


def test_keys_and_mode(shop, trained):
    trained = copy.deepcopy(trained).train()
    result = evaluate(trained, shop, split="test", k=(10, 20))
    assert trained.training
    assert {"recall@20", "ndcg@20", "precision@10", "map@20", "hit_rate@10"} <= set(result)
    assert all(isinstance(v, float) for v in result.values())
    assert result == evaluate(trained, shop, split="test", k=(10, 20))


def test_list_longer_than_the_catalogue(shop, trained):
    assert evaluate(trained, shop, k=[500])["recall@500"] == 1.0


def test_bad_input(shop, trained):
    empty = copy.copy(shop)
    empty["user", "interacts", "item"].test_mask = torch.zeros_like(shop["user", "interacts", "item"].test_mask)
    with pytest.raises(DataError, match="the test split is empty.*random_split"):
        evaluate(trained, empty)
    with pytest.raises(ConfigError, match="'k'"):
        evaluate(trained, shop, k=[0])
    with pytest.raises(ConfigError, match="did you mean 'recall'"):
        evaluate(trained, shop, metrics=["recal"])
    with pytest.raises(ConfigError, match="unknown split"):
        evaluate(trained, shop, split="tset")


def test_a_pair_that_is_there_twice_is_no_second_hit(tiny):
    edges, split = mr.data.interactions(tiny, "test")[:, :1].repeat(1, 2), torch.tensor([2.0, 2.0])
    twice = mr.data.build(edges, split, {}, num_users=10, num_items=8)
    with pytest.raises(DataError, match="the test split holds pairs twice"):
        Evaluator(twice)


def test_embeddings_do_not_change_with_the_model_that_made_them(shop):
    for kind in (mr.models.BPRMF, mr.models.VBPR):
        model = kind.from_data(shop, embedding_dim=4)
        before = mr.evaluation.embed(model, shop)
        values = before.map(torch.clone)
        mr.fit(model, shop, max_epochs=1, batch_size=256, learning_rate=0.1, progress=False)
        for channel in before.channels:
            assert torch.equal(before.user[channel], values.user[channel])
            assert torch.equal(before.item[channel], values.item[channel])
        assert not any(x.requires_grad for x in (*before.user.values(), *before.item.values()))
    # A fused user stays one matrix for all channels, and is not repeated where they are concatenated.
    fused = mr.evaluation.embed(mr.models.FREEDOM.from_data(shop, embedding_dim=4, knn_k=3), shop)
    assert fused.detach().concatenated()[0].shape == (120, 4)


def test_every_part_of_a_model_keeps_its_mode(shop):
    model = mr.models.MMGCN.from_data(shop, embedding_dim=4).train()
    part = next(iter(model.children())).eval()
    mr.evaluate(model, shop)
    assert model.training
    assert not part.training


def test_what_nobody_can_find_and_unknown_metrics_are_refused(shop):
    train, test = (mr.data.interactions(shop, split) for split in ("train", "test"))
    edges = torch.cat([train, test, train[:, :1]], dim=1)
    label = torch.tensor([0] * train.size(1) + [2] * test.size(1) + [2])
    twice = mr.data.build(edges, label, {"visual": shop["item"].x_visual}, num_users=120, num_items=80)
    with pytest.raises(DataError, match="pairs of the test split stand in another one"):
        Evaluator(twice, "test")
    with pytest.raises(ConfigError, match="unknown metric 'recal'"):
        Evaluator(shop, "test", metrics=["recal"])
    with pytest.raises(ConfigError, match="'metrics' expects a list"):
        Evaluator(shop, "test", metrics="recall")
