import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, ThreatModel
from mmgraph_robust.defenses import Smoothed
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import DRAGON, FREEDOM, GRCN, LATTICE, MGCN, MMGCN, VBPR, LightGCN
from mmgraph_robust.testing import check_model
from mmgraph_robust.utils import child_generator


@pytest.mark.parametrize("moved", [1.0, 3.0])
@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
def test_scores_are_the_mean_over_the_noise(tiny, kind, moved):
    model = kind.from_data(tiny, embedding_dim=4)
    smoothed = Smoothed(model, tiny, sigma=0.4, samples=3, modalities=["visual"], seed=7)
    features, graph = model.features(tiny), mr.Graph.from_data(tiny)
    generator = child_generator(7, "smoothing")
    deviation = 0.4 * float(features["visual"].square().mean().sqrt())
    # An attacker who makes features larger makes the noise no louder.
    features = features | {"visual": moved * features["visual"]}
    expected = 0.0
    for _ in range(3):
        noisy = features["visual"] + deviation * torch.randn(features["visual"].shape, generator=generator)
        user, item = model(features | {"visual": noisy}, graph).concatenated()
        expected = expected + user @ item.t() / 3
    user, item = smoothed(features, graph).concatenated()
    assert torch.allclose(user @ item.t(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [LATTICE, MGCN, DRAGON])
def test_item_graphs_are_those_without_noise_whoever_builds_them(shop, kind):
    """An attack, whose graph holds none yet, meets the scores that are evaluated."""
    smoothed = Smoothed(kind.from_data(shop, embedding_dim=4, knn_k=5), shop, sigma=1.0, samples=2)
    features = smoothed.features(shop)
    compiled = smoothed(features, smoothed.graph(shop)).concatenated()
    bare = smoothed(features, mr.Graph.from_data(shop)).concatenated()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(compiled, bare, strict=True))
    result = mr.attacks.Noise()(smoothed, shop, ThreatModel(["visual"], 0.1))
    assert result.before["recall@20"] == pytest.approx(mr.evaluate(smoothed, shop, k=(20,))["recall@20"])


def test_without_noise_the_scores_are_the_models(tiny):
    model = GRCN.from_data(tiny, embedding_dim=4)
    features, graph = model.features(tiny), mr.Graph.from_data(tiny)
    user, item = Smoothed(model, tiny, sigma=0.0, samples=1)(features, graph).concatenated()
    plain = model(features, graph).concatenated()
    assert torch.equal(user, plain[0])
    assert torch.equal(item, plain[1])


@pytest.mark.parametrize("kind", [MMGCN, GRCN])
def test_gradients_flow_and_agree_with_finite_differences(tiny, kind):
    model = Smoothed(kind.from_data(tiny, embedding_dim=4).double(), tiny, sigma=0.2, samples=3)
    graph = mr.Graph.from_data(tiny)
    features = {m: x.double() for m, x in model.features(tiny).items()}
    x = features["visual"].clone().requires_grad_()
    probe = torch.randn(10, 8, generator=torch.Generator().manual_seed(0), dtype=torch.double)

    def value(z):
        user, item = model(features | {"visual": z}, graph).concatenated()
        return (probe * (user @ item.t())).sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    with torch.no_grad():
        measured = float((value(x + 1e-6 * direction) - value(x - 1e-6 * direction)) / 2e-6)
    assert abs(measured) > 1e-4
    assert float((gradient * direction).sum()) == pytest.approx(measured, rel=1e-4)


def test_it_is_evaluated_and_attacked_like_any_model(shop):
    model = GRCN.from_data(shop, embedding_dim=8)
    mr.fit(model, shop, max_epochs=10, batch_size=256, learning_rate=0.01, progress=False)
    before = copy.deepcopy(model.state_dict())
    smoothed = Smoothed(model, shop, sigma=0.3, samples=3)
    clean = mr.evaluate(smoothed, shop)["recall@20"]
    assert clean == mr.evaluate(smoothed, shop)["recall@20"]
    outcome = PGD(steps=5)(smoothed, shop, ThreatModel(["visual", "textual"], 0.3))
    assert outcome.after["recall@20"] < outcome.before["recall@20"] == pytest.approx(clean)
    assert "stochastic" not in outcome.flags
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    check_model(smoothed, shop)


def test_item_graphs_are_the_models(shop):
    """They are built from features without noise; what else reads features is smoothed."""
    model = LATTICE.from_data(shop, embedding_dim=4, knn_k=4)
    smoothed = Smoothed(model, shop, sigma=0.5, samples=2)
    assert smoothed.knn_k == 4
    graph, plain = smoothed.graph(shop), model.graph(shop)
    for m, adjacency in plain.item_graphs.items():
        assert torch.equal(graph.item_graphs[m].edge_index(), adjacency.edge_index())
    with torch.no_grad():
        mean, alone = (u @ i.t() for u, i in (m(model.features(shop), graph).concatenated() for m in (smoothed, model)))
    assert not torch.allclose(mean, alone)


def test_bad_arguments_and_models(tiny):
    model = VBPR.from_data(tiny)
    for bad in ({"sigma": -1.0}, {"sigma": float("nan")}, {"samples": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Smoothed(model, tiny, **bad)
    with pytest.raises(ConfigError, match="unknown modality"):
        Smoothed(model, tiny, modalities=["odour"])
    with pytest.raises(ConfigError, match="nothing to smooth"):
        Smoothed(LightGCN.from_data(tiny), tiny)
    with pytest.raises(ConfigError, match="only through its item graph"):
        Smoothed(FREEDOM.from_data(tiny, knn_k=2), tiny)
