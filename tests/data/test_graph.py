import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Graph


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
