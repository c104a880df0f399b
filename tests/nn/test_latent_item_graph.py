import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import LatentItemGraph

from .graphs import gcn, nearest


def world():
    g = torch.Generator().manual_seed(0)
    return {"visual": torch.randn(9, 6, generator=g), "textual": torch.randn(9, 4, generator=g)}


def reference(layer, x):
    """Dense, from the equations."""
    share = torch.softmax(layer.weight, 0)
    learned = sum(a * nearest(layer.lins[m](x[m]), layer.k) for a, m in zip(share, layer.in_channels, strict=True))
    original = sum(a * gcn(nearest(x[m], layer.k)) for a, m in zip(share, layer.in_channels, strict=True))
    return (1 - layer.skip) * gcn(learned) + layer.skip * original


@pytest.mark.parametrize("skip", [0.0, 0.7, 1.0])
def test_equals_the_dense_equations_with_gradients(skip):
    x = {m: v.clone().requires_grad_() for m, v in world().items()}
    layer = LatentItemGraph({"visual": 6, "textual": 4}, hidden_channels=5, k=3, skip=skip)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.2, -0.4]))
    inputs = [*x.values(), *layer.parameters()]
    probe = torch.randn(9, 9, generator=torch.Generator().manual_seed(1))
    out, expected = layer(x).to_dense(), reference(layer, x)
    assert torch.allclose(out, expected, atol=1e-5)
    got = torch.autograd.grad((out * probe).sum(), inputs, allow_unused=True, materialize_grads=True)
    wanted = torch.autograd.grad((expected * probe).sum(), inputs, allow_unused=True, materialize_grads=True)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_the_original_graph_may_be_kept():
    x, layer = world(), LatentItemGraph({"visual": 6, "textual": 4}, k=3)
    kept = layer.original(x)
    assert torch.equal(layer(x, kept).to_dense(), layer(x).to_dense())
    with torch.no_grad():
        graph = layer(x, kept)
    # Nothing of the size items by items: k edges per item, modality and part.
    assert graph.num_edges == 9 * 3 * 2 * 2


@pytest.mark.parametrize("skip", [0.0, 0.7, 1.0])
def test_the_parts_sum_to_the_graph(skip):
    x, layer = world(), LatentItemGraph({"visual": 6, "textual": 4}, hidden_channels=5, k=3, skip=skip)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.2, -0.4]))
    parts = layer.by_modality(x)
    assert list(parts) == ["visual", "textual"]
    assert torch.allclose(sum(a.to_dense() for a in parts.values()), layer(x).to_dense(), atol=1e-6)
    # The degrees are those of the joint graph.
    share = torch.softmax(layer.weight, 0)
    learned = [a * nearest(layer.lins[m](x[m]), 3) for a, m in zip(share, x, strict=True)]
    degree = sum(learned).sum(1)
    for a, one, m in zip(share, learned, x, strict=True):
        expected = (1 - skip) * one / (degree[:, None] * degree).sqrt() + skip * a * gcn(nearest(x[m], 3))
        assert torch.allclose(parts[m].to_dense(), expected, atol=1e-5)


def test_a_single_modality_has_no_weight_to_learn():
    layer = LatentItemGraph({"visual": 6}, hidden_channels=5, k=3)
    assert {name for name, _ in layer.named_parameters()} == {"lins.visual.weight", "lins.visual.bias"}
    x = {"visual": world()["visual"]}
    assert torch.allclose(layer(x).to_dense(), reference(layer, x), atol=1e-5)


def test_rows_without_positive_sum_give_no_nan():
    layer = LatentItemGraph({"visual": 2}, hidden_channels=2, k=2)
    out = layer({"visual": torch.zeros(4, 2)}).to_dense()
    assert bool(torch.isfinite(out).all())


def test_bad_input_is_named():
    layer = LatentItemGraph({"visual": 6}, k=3)
    assert repr(layer) == "LatentItemGraph({'visual': 6}, hidden_channels=64, k=3, skip=0.9)"
    with pytest.raises(DataError, match=r"'x_dict' expects modality 'visual' \(got \['textual'\]\)"):
        layer({"textual": torch.randn(9, 6)})
    visual = r"'x_dict\['visual'\]'"
    with pytest.raises(DataError, match=rf"{visual} expects shape \[9, 6\] .* \(got \[9, 5\]\)"):
        layer({"visual": torch.randn(9, 5)})
    with pytest.raises(DataError, match=f"{visual} expects floating point numbers"):
        layer({"visual": torch.ones(9, 6, dtype=torch.long)})
    with pytest.raises(DataError, match=f"{visual} is on meta"):
        layer({"visual": torch.randn(9, 6, device="meta")})
    two = LatentItemGraph({"visual": 6, "textual": 2}, k=3)
    with pytest.raises(DataError, match=r"'x_dict\['textual'\]' expects shape \[9, 2\]"):
        two({"visual": torch.randn(9, 6), "textual": torch.randn(8, 2)})
    with pytest.raises(DataError, match=r"'original' expects modality 'visual' \(got \[\]\)"):
        layer({"visual": torch.randn(9, 6)}, {})
    with pytest.raises(ConfigError, match="'k' expects a whole number from 1 to 2"):
        layer({"visual": torch.randn(2, 6)})
    for arguments, message in (
        ({"k": 0}, "k >= 1"),
        ({"k": 1.5}, "k to be a whole number"),
        ({"hidden_channels": 0}, "hidden_channels >= 1"),
        ({"skip": 1.5}, "skip from 0 to 1"),
        ({"in_channels": {"audio.mfcc": 6}}, r"no dots, .* \(got 'audio.mfcc'\)"),
        ({"in_channels": {"keys": 6}}, r"a ModuleDict has itself \(got 'keys'\)"),
        ({"in_channels": {}}, "none"),
    ):
        with pytest.raises(ConfigError, match=message):
            LatentItemGraph(**({"in_channels": {"visual": 6}} | arguments))
