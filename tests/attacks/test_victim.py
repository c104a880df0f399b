import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks.victim import frozen, graph_under, reseed, same, seen_by
from mmgraph_robust.testing import weak_model


def test_a_frozen_model_is_restored_also_after_an_error(trained):
    trained = copy.deepcopy(trained).train()
    trained.user.requires_grad_(False)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), frozen(trained, 1):
        assert not trained.training
        assert not any(p.requires_grad for p in trained.parameters())
        torch.randn(5)
        raise RuntimeError("inside")
    assert trained.training
    assert not trained.user.requires_grad
    assert trained.item_id.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_numbers_of_a_forward_pass_have_a_seed():
    model, data = weak_model("NoisyFeatures")
    graph, features = model.graph(data), model.features(data)
    with frozen(model, 0), torch.no_grad():
        first = model(features, graph)
        second = model(features, graph)
        reseed(model, 0, "forward")
        again = model(features, graph)
    assert same(first, again)
    assert not same(first, second)


def test_what_was_seen_and_which_graph_stands(shop):
    graph = mr.Graph.from_data(shop)
    threat = mr.attacks.ThreatModel(["visual"])
    assert seen_by(graph, threat) is graph.interactions
    assert seen_by(graph, mr.attacks.ThreatModel(["visual"], labels="train")).num_edges == 0
    model = mr.models.FREEDOM.from_data(shop, embedding_dim=4, knn_k=4)
    assert set(graph_under(model, shop, threat).item_graphs) == {"textual"}
    frozen_threat = mr.attacks.ThreatModel(["visual"], graph="frozen")
    assert set(graph_under(model, shop, frozen_threat).item_graphs) == {"visual", "textual"}
