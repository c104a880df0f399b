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
