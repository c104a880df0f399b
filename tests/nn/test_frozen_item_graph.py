import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import FrozenItemGraph

from .graphs import nearest


def test_every_edge_weighs_its_modality_over_k():
    x = {"visual": torch.randn(9, 6), "textual": torch.randn(9, 4)}
    graph = FrozenItemGraph(k=3, weights={"visual": 0.1, "textual": 0.9})(x)
    edges = {m: (nearest(v, 3) != 0).float() for m, v in x.items()}
    assert torch.allclose(graph.to_dense(), (0.1 * edges["visual"] + 0.9 * edges["textual"]) / 3, atol=1e-6)
    assert torch.allclose(FrozenItemGraph(3)(x).to_dense(), sum(edges.values()) / 6, atol=1e-6)


def test_it_has_neither_parameters_nor_gradients():
    layer = FrozenItemGraph(2)
    x = torch.randn(5, 3, requires_grad=True)
    assert list(layer.parameters()) == []
    assert layer({"visual": x}).value.requires_grad is False


def test_bad_input_is_named():
    assert repr(FrozenItemGraph(2)) == "FrozenItemGraph(k=2, weights=None)"
    x = {"visual": torch.randn(5, 3)}
    with pytest.raises(ConfigError, match="k >= 1"):
        FrozenItemGraph(0)
    with pytest.raises(ConfigError, match="k to be a whole number"):
        FrozenItemGraph(1.5)
    with pytest.raises(ConfigError, match="'textual'"):
        FrozenItemGraph(2, {"visual": 0.5, "textual": 0.5})(x)
    with pytest.raises(ConfigError, match=r"weights >= 0 and finite \(got nan for 'visual'\)"):
        FrozenItemGraph(2, {"visual": float("nan")})
    with pytest.raises(ConfigError, match="got none"):
        FrozenItemGraph(2)({})
    with pytest.raises(DataError, match=r"'x_dict\['textual'\]' expects shape \[5, dim\]"):
        FrozenItemGraph(2)(x | {"textual": torch.randn(4, 3)})


def test_orthogonal_neighbours_are_neighbours():
    dense = FrozenItemGraph(5)({"visual": torch.eye(2).repeat_interleave(3, 0)}).to_dense()
    assert torch.allclose(dense[dense != 0], torch.tensor(0.2))
    assert (dense != 0).sum(1).tolist() == [5] * 6


def test_an_item_without_a_feature_has_no_neighbours():
    x = torch.rand(9, 4)
    x[[5, 7]] = 0
    dense = FrozenItemGraph(3)({"visual": x}).to_dense()
    assert not dense[[5, 7]].any()
    assert not dense[:, [5, 7]].any()
    others = [0, 1, 2, 3, 4, 6, 8]
    assert torch.allclose(dense[others].sum(1), torch.ones(7))
