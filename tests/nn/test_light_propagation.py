import pytest
import torch
from torch_geometric.nn import LGConv
from torch_geometric.testing import assert_module

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.nn import LightPropagation
from mmgraph_robust.sparse import Adjacency

from .graphs import BOTH_WAYS, EDGE_INDEX


@pytest.mark.parametrize("edge_index", [EDGE_INDEX, BOTH_WAYS], ids=["directed", "undirected"])
def test_equals_pyg(edge_index):
    x, conv, layer = torch.randn(5, 3), LGConv(), LightPropagation(num_layers=2)
    first = conv(x, edge_index)
    expected = (x + first + conv(first, edge_index)) / 3
    out = assert_module(layer, x, edge_index, expected_size=(5, 3), atol=1e-6)
    assert torch.allclose(out, expected, atol=1e-6)
    compiled = Adjacency.from_edge_index(edge_index.flip(0), num_rows=5, num_cols=5).normalize("gcn")
    assert torch.allclose(layer(x, compiled), expected, atol=1e-6)


def test_no_layer_is_the_input():
    x = torch.randn(5, 3)
    assert torch.equal(LightPropagation(0)(x, EDGE_INDEX), x)
    assert repr(LightPropagation(2)) == "LightPropagation(num_layers=2)"
    with pytest.raises(ConfigError, match="num_layers >= 0"):
        LightPropagation(-1)
    with pytest.raises(ConfigError, match=r"num_layers to be a whole number \(got 1.5\)"):
        LightPropagation(1.5)
