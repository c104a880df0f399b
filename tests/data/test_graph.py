import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Graph
from mmgraph_robust.sparse import spmm


def test_holds_training_interactions_only_in_both_directions(tiny):
    graph = Graph.from_data(tiny)
    train = mr.data.interactions(tiny, "train")
    dense = torch.zeros(10, 8)
    dense[train[0], train[1]] = 1
    assert torch.equal(graph.interactions.to_dense(), dense)
    whole = torch.zeros(18, 18)
    whole[:10, 10:], whole[10:, :10] = dense, dense.t()
    assert torch.equal(graph.bipartite.to_dense(), whole)
    degree = whole.sum(1).clamp(min=1)
    assert torch.allclose(graph.bipartite_mean.to_dense(), whole / degree[:, None])
    assert torch.allclose(graph.bipartite_sym.to_dense(), whole / (degree[:, None] * degree).sqrt())
    assert graph.user_degree.tolist() == dense.sum(1).tolist()
    assert graph.item_degree.tolist() == dense.sum(0).tolist()
    assert graph.to("cpu") is graph


def test_item_graphs_come_from_their_edge_types(tiny):
    import copy

    data = copy.copy(tiny)
    data["item", "similar_visual", "item"].edge_index = torch.tensor([[0, 1], [2, 3]])
    data["item", "similar_visual", "item"].edge_weight = torch.tensor([0.5, 2.0])
    graph = Graph.from_data(data)
    assert list(graph.item_graphs) == ["visual"]
    # The edge runs from its source 1 to its target 3, which gathers.
    assert float(graph.item_graphs["visual"].to_dense()[3, 1]) == 2.0


def test_a_seed_makes_the_same_randomness_again(tiny):
    graph = Graph.from_data(tiny)
    assert graph.seed is None
    assert graph.generator("dropout") is None
    step = graph.with_seed(7)
    draws = [torch.rand(4, generator=step.generator(p)) for p in ("dropout", "dropout", "noise")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert step.with_interactions(graph.interactions).seed == step.with_item_graphs({}).seed == 7
    assert step.with_seed(None).generator("dropout") is None


def test_operators_are_made_once_for_the_same_interactions(tiny):
    graph = Graph.from_data(tiny)
    others = [graph.with_seed(1), graph.with_item_graphs({}), graph.with_latent_graphs({})]
    for name in ("bipartite", "bipartite_sym", "bipartite_mean", "bipartite_walk", "interactions_sym"):
        assert all(getattr(other, name) is getattr(graph, name) for other in others)
    half = torch.arange(graph.interactions.num_edges) % 2 == 0
    pruned = graph.with_interactions(graph.interactions.select(half))
    assert pruned.bipartite_sym.num_edges == 2 * int(half.sum())
    degree = graph.user_degree[:, None] * graph.item_degree
    expected = graph.interactions.to_dense() / degree.clamp(min=1).sqrt()
    assert torch.allclose(graph.interactions_sym.to_dense(), expected)
    walk = graph.bipartite.to_dense() + torch.eye(18)
    assert torch.allclose(graph.bipartite_walk.to_dense(), walk / walk.sum(1, keepdim=True))


def test_users_who_share_items_are_found_once(tiny):
    graph = Graph.from_data(tiny)
    shared = graph.interactions.to_dense() @ graph.interactions.to_dense().t()
    assert torch.equal(graph.user_graph(9).to_dense(), shared.fill_diagonal_(0))
    nearest = graph.user_graph(1)
    assert torch.equal(nearest.values(), shared.amax(1)[nearest.row.long()])
    assert graph.with_seed(1).user_graph(1) is nearest
    pruned = graph.with_interactions(graph.interactions.select(torch.arange(graph.interactions.num_edges) < 1))
    assert pruned.user_graph(1).num_edges == 0


def test_operators_that_evaluation_made_can_be_trained_on(tiny):
    graph = Graph.from_data(tiny)
    operators = {
        "bipartite": lambda: graph.bipartite,
        "bipartite_sym": lambda: graph.bipartite_sym,
        "bipartite_mean": lambda: graph.bipartite_mean,
        "bipartite_walk": lambda: graph.bipartite_walk,
        "interactions_sym": lambda: graph.interactions_sym,
        "user_graph": lambda: graph.user_graph(3),
    }
    with torch.inference_mode():
        for make in operators.values():
            spmm(make(), torch.ones(make().num_cols, 2))
    assert len(graph._operators) == len(operators)
    for make in operators.values():
        adj = make()
        weight = adj.values().clone().requires_grad_()
        x = torch.ones(adj.num_cols, 2, requires_grad=True)
        (spmm(adj, x) + spmm(adj.with_value(weight).normalize("sym"), x)).square().sum().backward()
        assert torch.isfinite(x.grad).all()
        assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("kind", sorted(set(mr.models.__all__) - {"Recommender", "Embeddings", "LinearEncoder"}))
def test_models_train_after_they_were_evaluated_for_inference(tiny, kind):
    model = getattr(mr.models, kind).from_data(tiny, embedding_dim=4)
    with torch.inference_mode():
        graph = model.graph(tiny)
        model(model.features(tiny), graph)
    history = mr.fit(model, tiny, max_epochs=1, batch_size=16, progress=False, graph=graph)
    assert history.records[0]["loss"] > 0
