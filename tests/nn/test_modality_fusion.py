import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import ModalityFusion


@pytest.fixture
def xs():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=g) for _ in range(3)]


def test_plain_modes(xs):
    stacked = torch.stack(xs)
    assert torch.equal(ModalityFusion()(xs), torch.cat(xs, 1))
    assert torch.allclose(ModalityFusion("sum")(xs), stacked.sum(0))
    assert torch.allclose(ModalityFusion("mean")(xs), stacked.mean(0))
    assert torch.equal(ModalityFusion("max")(xs), stacked.amax(0))


def test_weighted_learns_one_importance_per_modality(xs):
    layer = ModalityFusion("weighted", num_modalities=3)
    assert torch.allclose(layer(xs), torch.stack(xs).mean(0), atol=1e-6)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
    share = torch.tensor([1.0, 2.0, -1.0]).exp()
    expected = sum(a * x for a, x in zip(share / share.sum(), xs, strict=True))
    assert torch.allclose(layer(xs), expected, atol=1e-6)
    layer(xs).square().sum().backward()
    assert bool((layer.weight.grad != 0).all())


def test_attention_weighs_every_node(xs):
    layer = ModalityFusion("attention", channels=3)
    rows = []
    for node in range(4):
        score = torch.stack([layer.query(torch.tanh(layer.lin(x[node]))) for x in xs]).flatten()
        rows.append(sum(a * x[node] for a, x in zip(score.softmax(0), xs, strict=True)))
    assert torch.allclose(layer(xs), torch.stack(rows), atol=1e-6)


def test_shares_split_the_sum_by_modality(xs):
    stacked = torch.stack(xs, dim=1)
    for layer in (ModalityFusion("weighted", num_modalities=3), ModalityFusion("attention", channels=3)):
        share = layer.importance(stacked)
        assert torch.allclose(share.sum(-2), torch.ones(1))
        assert torch.allclose((share * stacked).sum(1), layer(xs), atol=1e-6)
    with pytest.raises(ConfigError, match="'sum' has no shares"):
        ModalityFusion("sum").importance(stacked)


def test_bad_input_is_named(xs):
    assert repr(ModalityFusion("sum")) == "ModalityFusion('sum', num_modalities=None, channels=None)"
    with pytest.raises(ConfigError, match="mode one of"):
        ModalityFusion("avg")
    with pytest.raises(ConfigError, match="num_modalities for mode 'weighted'"):
        ModalityFusion("weighted")
    with pytest.raises(ConfigError, match="channels for mode 'attention'"):
        ModalityFusion("attention")
    with pytest.raises(DataError, match="one or more"):
        ModalityFusion()([])
    for mode, other, message in (
        ("sum", torch.randn(4, 2), r"expects shape \[4, 3\]"),
        ("concat", torch.randn(5, 2), r"expects shape \[4, channels\]"),
        ("mean", torch.ones(4, 3, dtype=torch.long), "expects floating point"),
        ("max", torch.randn(4, 3, device="meta"), "is on meta"),
    ):
        with pytest.raises(DataError, match=rf"'xs\[1\]' {message}"):
            ModalityFusion(mode)([torch.randn(4, 3), other])
    with pytest.raises(DataError, match=r"'xs\[0\]' expects shape \[4, 2\]"):
        ModalityFusion("attention", channels=2)([torch.randn(4, 3)])
    for mode in ("weighted", "sum", "concat"):
        with pytest.raises(DataError, match="expects 3 modalities .got 2"):
            ModalityFusion(mode, num_modalities=3)(xs[:2])
    for arguments in ({"num_modalities": -1}, {"num_modalities": 1.5}, {"channels": 0}):
        with pytest.raises(ConfigError, match=f"'ModalityFusion' expects {next(iter(arguments))}"):
            ModalityFusion("sum", **arguments)
