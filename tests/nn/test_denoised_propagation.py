import pytest
import torch
from torch_geometric.testing import assert_module
from torch_geometric.utils import barabasi_albert_graph

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import DenoisedPropagation, LightPropagation
from mmgraph_robust.sparse import Adjacency

from .graphs import BOTH_WAYS, EDGE_INDEX


def test_in_evaluation_it_is_light_propagation():
    x = torch.randn(5, 3)
    layer = DenoisedPropagation(num_layers=2, dropout=0.5).eval()
    out = assert_module(layer, x, BOTH_WAYS, expected_size=(5, 3), atol=1e-6)
    assert torch.equal(out, LightPropagation(2)(x, BOTH_WAYS))


@pytest.mark.parametrize("how", ["degree", "uniform"])
def test_training_drops_pairs_and_normalises_what_stays(how):
    edge_index = barabasi_albert_graph(60, 3)
    layer = DenoisedPropagation(num_layers=1, dropout=0.7, how=how)
    pruned = layer.prune(edge_index, 60, torch.Generator().manual_seed(0))
    pairs = int((edge_index[0] < edge_index[1]).sum())
    assert pruned.num_edges == 2 * int(0.3 * pairs + 1e-9)
    matrix = pruned.to_dense()
    assert torch.equal(matrix, matrix.t())
    there = (matrix > 0).float()
    assert bool((there <= Adjacency.from_edge_index(edge_index, num_rows=60, num_cols=60).to_dense()).all())
    degree = there.sum(1)
    assert torch.allclose(matrix, there / (degree[:, None] * degree).clamp(min=1).sqrt(), atol=1e-6)
    x = torch.randn(60, 4)
    out = layer(x, edge_index, torch.Generator().manual_seed(0))
    assert torch.allclose(out, (x + matrix @ x) / 2, atol=1e-6)


def test_popular_edges_go_first():
    ring, spokes = torch.arange(100), torch.arange(90)
    edge_index = torch.stack([torch.cat([ring, torch.full((90,), 100)]), torch.cat([(ring + 1) % 100, spokes])])
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)

    def share_of_spokes(how):
        layer, g = DenoisedPropagation(dropout=0.5, how=how), torch.Generator().manual_seed(0)
        kept = [layer.prune(edge_index, 101, g) for _ in range(20)]
        return sum(float((p.row == 100).sum()) for p in kept) / sum(p.num_edges / 2 for p in kept)

    assert share_of_spokes("uniform") == pytest.approx(90 / 190, abs=0.03)
    assert share_of_spokes("degree") < 0.25


def test_bad_input_is_named():
    assert repr(DenoisedPropagation()) == "DenoisedPropagation(num_layers=2, dropout=0.8, how='degree')"
    with pytest.raises(DataError, match="both directions of every edge"):
        DenoisedPropagation()(torch.randn(5, 3), EDGE_INDEX)
    with pytest.raises(ConfigError, match="0 <= dropout < 1"):
        DenoisedPropagation(dropout=1.0)
    with pytest.raises(ConfigError, match="'degree' or 'uniform'"):
        DenoisedPropagation(how="popular")
