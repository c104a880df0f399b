import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Graph, add_item_graphs, with_item_graphs
from mmgraph_robust.data.item_graphs import stored_item_graphs
from mmgraph_robust.data.schema import features
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency, SoftGraph, cosine_graph, knn_graph
from mmgraph_robust.training import data_hash


def kinds(data):
    return {kind for kind in data.edge_types if kind[0] == kind[2]}


def test_every_item_gathers_from_its_nearest(tiny):
    data = add_item_graphs(tiny, 3)
    assert kinds(data) == {("item", f"similar_{m}", "item") for m in ("visual", "textual", "acoustic")}
    x = torch.nn.functional.normalize(tiny["item"].x_visual, dim=1)
    store = data["item", "similar_visual", "item"]
    assert store.edge_index.shape == (2, 8 * 3)
    for item in range(8):
        # PyG's direction: from the source that sends to the target that gathers.
        mine = store.edge_index[1] == item
        cosine = x @ x[item]
        cosine[item] = 2.0
        nearest = cosine.topk(3).indices
        assert set(store.edge_index[0, mine].tolist()) == set(nearest.tolist())
        assert torch.allclose(store.edge_weight[mine], (x @ x[item])[store.edge_index[0, mine]], atol=1e-6)


def test_the_original_is_left_alone(tiny):
    before, hashed = list(tiny.edge_types), data_hash(tiny)
    data = add_item_graphs(tiny, 2)
    assert list(tiny.edge_types) == before
    assert data["item"].x_visual is tiny["item"].x_visual
    assert data_hash(tiny) == hashed
    # Checkpoints and results know the stored graph that they were made with.
    assert len({hashed, data_hash(data), data_hash(add_item_graphs(tiny, 3))}) == 3
    assert data_hash(with_item_graphs(data, {})) == hashed


def test_graphs_come_back_as_they_were(tiny):
    g = torch.Generator().manual_seed(0)
    edge_index = torch.stack([torch.randint(8, (20,), generator=g), torch.randint(8, (20,), generator=g)])
    made = Adjacency.from_edge_index(edge_index, num_rows=8, num_cols=8, values=torch.rand(20, generator=g))
    data = with_item_graphs(tiny, {"visual": made})
    stored = stored_item_graphs(data)
    assert list(stored) == ["visual"]
    assert torch.equal(stored["visual"].to_dense(), made.to_dense())
    compiled = Graph.from_data(data).item_graphs
    assert torch.equal(compiled["visual"].to_dense(), made.to_dense())
    # Through the data set once more, and without.
    again = with_item_graphs(data, compiled)
    assert torch.equal(stored_item_graphs(again)["visual"].to_dense(), made.to_dense())
    assert stored_item_graphs(with_item_graphs(data, {})) == {}
    assert stored_item_graphs(tiny) == {}


def test_others_are_kept_when_one_is_added(tiny):
    data = add_item_graphs(add_item_graphs(tiny, 3, ["visual"]), 2, ["textual"])
    stored = stored_item_graphs(data)
    assert {m: a.num_edges for m, a in stored.items()} == {"visual": 24, "textual": 16}
    assert torch.equal(stored["visual"].to_dense(), knn_graph(tiny["item"].x_visual, 3).to_dense())
    assert {m: a.num_edges for m, a in stored_item_graphs(add_item_graphs(data, 4, ["visual"])).items()} == {
        "visual": 32, "textual": 16
    }  # fmt: skip


def test_weights_may_be_left_out(tiny):
    data = with_item_graphs(tiny, {})
    data["item", "similar_visual", "item"].edge_index = torch.tensor([[0, 1], [2, 3]])
    assert float(stored_item_graphs(data)["visual"].to_dense()[3, 1]) == 1.0


def test_stored_graphs_do_not_follow_the_features(tiny):
    data = add_item_graphs(tiny, 3)
    changed = mr.data.with_features(data, {"visual": tiny["item"].x_visual.flip(0)})
    stored = stored_item_graphs(changed)["visual"].to_dense()
    assert torch.equal(stored, stored_item_graphs(data)["visual"].to_dense())
    assert not torch.equal(stored, knn_graph(changed["item"].x_visual, 3).to_dense())


def test_the_cache_goes_by_content(tiny, tmp_path):
    first = add_item_graphs(tiny, 3, ["visual"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = add_item_graphs(tiny, 3, ["visual"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    kind = ("item", "similar_visual", "item")
    assert torch.equal(first[kind].edge_index, again[kind].edge_index)
    assert torch.equal(first[kind].edge_weight, again[kind].edge_weight)
    changed = mr.data.with_features(tiny, {"visual": tiny["item"].x_visual.flip(0)})
    other = add_item_graphs(changed, 3, ["visual"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(first[kind].edge_index, other[kind].edge_index)


def test_bad_input(tiny):
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        add_item_graphs(tiny, 3, ["visaul"])
    with pytest.raises(ConfigError, match="'k' expects a whole number from 1 to 8"):
        add_item_graphs(tiny, 9)
    data = with_item_graphs(tiny, {})
    data["item", "similar_visual", "item"].edge_index = torch.tensor([[0], [8]])
    with pytest.raises(DataError, match="holds id 8"):
        Graph.from_data(data)
    data = with_item_graphs(tiny, {})
    data["item", "similar_visual", "item"].edge_weight = torch.ones(2)
    with pytest.raises(DataError, match="lacks 'edge_index'.*add_item_graphs"):
        Graph.from_data(data)


def test_the_weights_of_a_choice_are_stored_with_it(tiny):
    graph = cosine_graph(features(tiny)["visual"], 4)
    soft = SoftGraph(graph.structure, graph.values(), torch.rand(graph.num_edges))
    stored = stored_item_graphs(with_item_graphs(tiny, {"visual": soft, "textual": graph}))
    assert isinstance(stored["visual"], SoftGraph)
    assert not isinstance(stored["textual"], SoftGraph)
    assert torch.equal(stored["visual"].selection, soft.selection)
    assert torch.equal(stored["visual"].values(), soft.values())


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("edge_weight", torch.full((24,), float("nan")), "edge_weight has NaN or infinite values"),
        ("edge_weight", torch.ones(3), r"edge_weight expects one value for each of 24 edges \(got \[3\]\)"),
        ("edge_selection", torch.full((24,), float("inf")), "edge_selection has NaN or infinite values"),
        ("edge_index", torch.full((2, 24), 99), r"data\[\('item', 'similar_visual', 'item'\)\]: .*99"),
    ],
)  # fmt: skip
def test_stored_graphs_are_validated(tiny, key, value, match):
    data = add_item_graphs(tiny, 3)
    data["item", "similar_visual", "item"][key] = value
    with pytest.raises(DataError, match=match):
        mr.data.validate(data)
