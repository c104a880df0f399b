import pytest
import torch

from mmgraph_robust.nn import Linear


def test_is_torchs_layer():
    layer, twin = Linear(6, 3), torch.nn.Linear(6, 3)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(5, 6)
    assert torch.allclose(layer(x), twin(x), atol=1e-6)
    assert torch.allclose(layer(x[None]), twin(x[None]), atol=1e-6)
    assert layer(x[:0]).shape == (0, 3)
    bare = Linear(6, 3, bias=False)
    assert torch.allclose(bare(x), x @ bare.weight.t(), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert repr(layer) == "Linear(in_features=6, out_features=3, bias=True)"


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=["coo", "csr"])
def test_sparse_features_go_the_way_of_torch(layout):
    layer, x = Linear(6, 3), torch.randn(5, 6).relu()
    y = layer(x.to_sparse(layout=layout))
    assert torch.allclose(y, layer(x), atol=1e-6)
    (got,) = torch.autograd.grad(y.square().sum(), layer.weight)
    assert torch.allclose(got, torch.autograd.grad(layer(x).square().sum(), layer.weight)[0], atol=1e-4)


def test_compiles_as_one_graph():
    layer, x = Linear(6, 3), torch.randn(5, 6)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    (got,) = torch.autograd.grad(compiled(x).square().sum(), layer.weight)
    assert torch.allclose(got, torch.autograd.grad(layer(x).square().sum(), layer.weight)[0], atol=1e-4)


def test_shapes_are_found_without_memory():
    assert Linear(6, 3, device="meta")(torch.randn(5, 6, device="meta")).shape == (5, 3)
