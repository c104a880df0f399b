"""Layers alone, with plain PyG inputs, against dense algebra."""

import pytest
import torch
from torch_geometric.nn import LGConv, SAGEConv

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.nn import (
    GraphRefining,
    LightPropagation,
    MMGCNConv,
    PrototypeRouting,
    attention_product,
    batch_mean_squares,
    batch_norms,
    bpr_loss,
)
from mmgraph_robust.sparse import Adjacency, sddmm


@pytest.fixture
def edge_index():
    return torch.tensor([[0, 1, 2, 3, 4, 2], [1, 0, 0, 1, 1, 3]])


def test_light_propagation_equals_pyg(edge_index):
    x = torch.randn(5, 3)
    conv = LGConv()
    first = conv(x, edge_index)
    expected = (x + first + conv(first, edge_index)) / 3
    layer = LightPropagation(num_layers=2)
    # PyG normalises by the target's degree on both ends; so does a symmetric graph here.
    both = torch.cat([edge_index, edge_index.flip(0)], 1).unique(dim=1)
    first = conv(x, both)
    expected = (x + first + conv(first, both)) / 3
    assert torch.allclose(layer(x, both), expected, atol=1e-6)
    compiled = Adjacency.from_edge_index(both.flip(0), num_rows=5, num_cols=5).normalize("sym")
    assert torch.allclose(layer(x, compiled), expected, atol=1e-6)
    assert repr(layer) == "LightPropagation(num_layers=2)"
    with pytest.raises(ConfigError, match="num_layers >= 0"):
        LightPropagation(-1)


def test_messages_flow_from_source_to_target(edge_index):
    x, ids = torch.eye(5), torch.zeros(5, 4)
    layer = MMGCNConv(5, 4)
    moved = layer(x + 0, ids, edge_index)
    x[4] = 7.0
    changed = (layer(x, ids, edge_index) != moved).any(1)
    # Node 4 sends to node 1, and changes itself.
    assert changed.tolist() == [False, True, False, False, True]


def test_mmgcn_conv_aggregates_like_pyg_mean(edge_index):
    x, ids = torch.randn(5, 3), torch.zeros(5, 4)
    mean = SAGEConv(3, 3, root_weight=False, bias=False)
    torch.nn.init.eye_(mean.lin_l.weight)
    layer = MMGCNConv(3, 4)
    h = torch.nn.functional.leaky_relu(mean(x @ layer.weight, edge_index))
    own = torch.nn.functional.leaky_relu(layer.lin_self(x))
    expected = torch.nn.functional.leaky_relu(layer.lin_out(torch.cat([h, own], 1)))
    assert torch.allclose(layer(x, ids, edge_index), expected, atol=1e-6)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    first = layer.weight.detach().clone()
    layer.reset_parameters(torch.Generator().manual_seed(0))
    assert torch.equal(first, layer.weight)
    assert repr(layer) == "MMGCNConv(3, 4, combine='concat')"
    with pytest.raises(ConfigError, match="'concat' or 'add'"):
        MMGCNConv(3, 4, "False")


def test_routing_moves_users_towards_their_items():
    item = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    user = torch.nn.functional.normalize(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), dim=1)
    edge_index = torch.tensor([[0], [0]])  # item 0 to user 0; user 1 has none
    out = PrototypeRouting(3)(user, item, edge_index)
    assert float(out[0] @ item[0]) > float(user[0] @ item[0])
    assert torch.allclose(out[1], user[1])
    assert torch.allclose(out.norm(dim=1), torch.ones(2))
    assert repr(PrototypeRouting(3)) == "PrototypeRouting(num_routings=3)"


def test_attention_product_equals_dense(edge_index):
    adj = Adjacency.from_edge_index(edge_index, num_rows=5, num_cols=5)
    q, k, v = torch.randn(5, 3), torch.randn(5, 3), torch.randn(5, 2)
    mask = torch.where(adj.to_dense() > 0, q @ k.t(), torch.tensor(-torch.inf))
    expected = torch.softmax(mask, 1).nan_to_num() @ v
    out, weight = attention_product(adj, sddmm(adj, q, k), v)
    assert torch.allclose(out, expected, atol=1e-6)
    assert torch.allclose(torch.zeros(5).index_add(0, adj.row, weight)[adj.degree() > 0], torch.ones(1), atol=1e-6)


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("pruning", [True, False])
def test_graph_refining_by_hand(reduce, pruning):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 1]]))
    a = [torch.tensor([0.3, 0.7, 1.0]), torch.tensor([0.9, 0.1, 1.0])]
    c = torch.tensor([[1.0, -2.0], [-1.0, -3.0]])
    products = torch.tensor([[0.3, -1.8], [-0.7, -0.3], [-1.0, -3.0]])
    expected = products.max(1).values if reduce == "max" else products.mean(1)
    got = GraphRefining(reduce, pruning)(a, c, adj)
    assert torch.allclose(got, expected.clamp(min=0) if pruning else expected)
    with pytest.raises(ConfigError, match="'max' or 'mean'"):
        GraphRefining("sum")


def test_bpr_loss_does_not_overflow():
    assert float(bpr_loss(torch.tensor([0.0]), torch.tensor([0.0]))) == pytest.approx(0.693147, abs=1e-5)
    assert float(bpr_loss(torch.tensor([-1e4]), torch.tensor([1e4]))) == pytest.approx(2e4)


def test_penalties_by_hand():
    ids = torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0, 2])
    user, item = torch.randn(2, 3), torch.randn(3, 3)
    norms = [float(x.square().sum()) ** 0.5 for x in (user, item[[1, 1]], item[[0, 2]])]
    assert float(batch_norms(user, item, ids)) == pytest.approx(sum(norms) / 2, rel=1e-5)
    pairs = [(0, 1), (1, 1), (0, 0), (1, 2)]
    expected = sum((user[u].square() + item[i].square()).mean() for u, i in pairs) / 4
    assert torch.allclose(batch_mean_squares(torch.cat([user, item]), 2, ids), expected)
