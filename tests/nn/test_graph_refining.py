import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import GraphRefining
from mmgraph_robust.sparse import Adjacency


@pytest.mark.parametrize("mode", ["confidence", "max", "mean"])
@pytest.mark.parametrize("pruning", [True, False])
def test_by_hand(mode, pruning):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 1]]))
    a = [torch.tensor([0.3, 0.7, -1.0]), torch.tensor([0.9, 0.1, -2.0])]
    c = torch.tensor([[1.0, -2.0], [-1.0, -3.0]])
    products = torch.tensor([[0.3, -1.8], [-0.7, -0.3], [1.0, 6.0]])
    plain = torch.stack(a, 1)
    expected = {"confidence": products.max(1).values, "max": plain.max(1).values, "mean": plain.mean(1)}[mode]
    layer = GraphRefining(mode, pruning)
    got = layer(a, adj, c)
    assert torch.allclose(got, expected.clamp(min=0) if pruning else expected)
    # As edge_index of (source, target), the source is trusted likewise.
    assert torch.equal(layer(a, torch.tensor([[0, 1, 1], [0, 0, 1]]), c), got)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="'confidence', 'max' or 'mean'"):
        GraphRefining("sum")
    with pytest.raises(DataError, match="expects confidences"):
        GraphRefining()([torch.randn(1)], torch.tensor([[0], [0]]))
    with pytest.raises(DataError, match="'affinities' expects one or more"):
        GraphRefining("max")([], torch.tensor([[0], [0]]))


@pytest.mark.parametrize(
    ("second", "confidence", "message"),
    [
        (torch.randn(2), torch.randn(2, 2), r"'affinities\[1\]' expects shape \[3\]"),
        (torch.ones(3, dtype=torch.long), torch.randn(2, 2), r"'affinities\[1\]' expects floating point"),
        (torch.randn(3), torch.randn(2, 3), r"'confidence' expects shape \[num_sources, 2\]"),
        (torch.randn(3), torch.randn(2, 2, device="meta"), "'confidence' is on meta"),
        (torch.randn(3), torch.randn(1, 2), "'edge_index' expects sources from 0 to 0"),
    ],
)
def test_bad_input_is_named(second, confidence, message):
    with pytest.raises(DataError, match=message):
        GraphRefining()([torch.randn(3), second], torch.tensor([[0, 1, 1], [0, 0, 1]]), confidence)


def test_a_compiled_graph_says_how_many_trust():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0], [0, 1]]), num_cols=3)
    with pytest.raises(DataError, match=r"'confidence' expects shape \[3, 1\]"):
        GraphRefining()([torch.randn(2)], adj, torch.randn(2, 1))
