import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import SAGEConv
from torch_geometric.testing import assert_module

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import MMGCNConv

from .graphs import EDGE_INDEX


def test_messages_flow_from_source_to_target():
    x, ids = torch.eye(5), torch.zeros(5, 4)
    layer = MMGCNConv(5, 4)
    before = layer(x, EDGE_INDEX, ids)
    x[4] = 7.0
    changed = (layer(x, EDGE_INDEX, ids) != before).any(1)
    # Node 4 sends to node 1, and changes itself.
    assert changed.tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("combine", ["concat", "add"])
def test_aggregates_like_pyg_mean(combine):
    x, ids = torch.randn(5, 3), torch.randn(5, 4)
    mean = SAGEConv(3, 3, root_weight=False, bias=False)
    torch.nn.init.eye_(mean.lin_l.weight)
    layer = MMGCNConv(3, 4, combine)
    h, own = F.leaky_relu(mean(x @ layer.weight, EDGE_INDEX)), F.leaky_relu(layer.lin_self(x)) + ids
    expected = layer.lin_out(torch.cat([h, own], 1)) if combine == "concat" else layer.lin_out(h) + own
    out = assert_module(layer, x, EDGE_INDEX, expected_size=(5, 4), ids=ids, atol=1e-6)
    assert torch.allclose(out, F.leaky_relu(expected), atol=1e-6)


def test_parameters_come_from_the_generator():
    layer = MMGCNConv(3, 4)
    states = []
    for seed in (0, 0, 1):
        layer.reset_parameters(torch.Generator().manual_seed(seed))
        states.append(torch.cat([p.detach().clone().flatten() for p in layer.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert repr(layer) == "MMGCNConv(3, 4, combine='concat')"
    with pytest.raises(ConfigError, match="'concat' or 'add'"):
        MMGCNConv(3, 4, "False")
    with pytest.raises(ConfigError, match=r"'MMGCNConv' expects in_channels >= 1 \(got 0\)"):
        MMGCNConv(0, 4)


@pytest.mark.parametrize(
    ("x", "ids", "message"),
    [
        (torch.randn(5, 2), torch.randn(5, 4), r"'x' expects shape \[num_nodes, 3\]"),
        (torch.ones(5, 3, dtype=torch.long), torch.randn(5, 4), "'x' expects floating point"),
        (torch.randn(5, 3), torch.randn(4, 4), r"'ids' expects shape \[5, 4\]"),
        (torch.randn(5, 3), torch.randn(5, 4, device="meta"), "'ids' is on meta"),
        (torch.randn(4, 3), torch.randn(4, 4), "'edge_index' holds id 4"),
    ],
)
def test_bad_input_is_named(x, ids, message):
    with pytest.raises(DataError, match=message):
        MMGCNConv(3, 4)(x, EDGE_INDEX, ids)
