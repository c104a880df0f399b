import pytest
import torch
from references import grcn

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import GRCN
from mmgraph_robust.testing import check_model


@pytest.mark.parametrize("fusion", ["concat", "mean", "id"])
@pytest.mark.parametrize("weighting", ["confidence", "max", "mean"])
@pytest.mark.parametrize("pruning", [True, False])
def test_equals_reference(tiny, fusion, weighting, pruning):
    options = {"fusion": fusion, "weighting": weighting, "pruning": pruning}
    model = GRCN.from_data(tiny, embedding_dim=4, **options)
    embeddings = model(model.features(tiny), Graph.from_data(tiny))
    user, item = embeddings.concatenated()
    assert torch.allclose(user @ item.t(), grcn(model, tiny, **options), atol=1e-5)
    assert embeddings.channels == (("id",) if fusion == "id" else ("id", *model.modalities))
    if fusion == "mean":
        # The item side is split, the user is one.
        assert all(embeddings.user[c] is embeddings.user["id"] for c in embeddings.channels)


def test_the_toolboxs_routing_reaches_no_user(tiny):
    model = GRCN.from_data(tiny, embedding_dim=4, variant="mmrec")
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), grcn(model, tiny, routings=0), atol=1e-5)
    routed = GRCN.from_data(tiny, embedding_dim=4, variant="mmrec", routing="paper")
    user, item = routed(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), grcn(routed, tiny), atol=1e-5)


def test_the_toolboxs_maps_start_xavier_normal(shop):
    for variant, expected in (("paper", 1 / (3 * 12) ** 0.5), ("mmrec", (2 / (12 + 64)) ** 0.5)):
        stds = [
            float(GRCN.from_data(shop, variant=variant, seed=s).projection["visual"].weight.std()) for s in range(5)
        ]
        assert sum(stds) / 5 == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"modalities": ["visual"]}, {"variant": "mmrec"}, {"fusion": "mean"}, {"fusion": "id", "weighting": "max"}],
    ids=repr,
)
def test_keeps_the_contract(shop, arguments):
    check_model(GRCN.from_data(shop, embedding_dim=4, **arguments), shop)


def test_routing_reaches_users(tiny):
    model = GRCN.from_data(tiny, embedding_dim=4)
    still = GRCN.from_data(tiny, embedding_dim=4, num_routings=0)
    graph, features = Graph.from_data(tiny), model.features(tiny)
    moved, kept = model(features, graph), still(features, graph)
    assert not torch.allclose(moved.user["visual"], kept.user["visual"])


@pytest.mark.parametrize("variant", ["paper", "mmrec"])
def test_loss_by_hand(tiny, variant):
    model = GRCN.from_data(tiny, embedding_dim=4, reg=0.5, variant=variant)
    features = model.features(tiny)
    embeddings = model(features, Graph.from_data(tiny))
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    user, item = embeddings.concatenated()
    s = user @ item.t()
    ranking = -torch.nn.functional.logsigmoid(torch.stack([s[0, 1] - s[0, 2], s[1, 1] - s[1, 3]])).mean()
    ids = (model.id[[0, 1, 0, 1]].square() + model.id[[11, 11, 12, 13]].square()).mean()
    preferences = sum(p[[0, 1]].square().mean() for p in model.preference.values())
    expected = ranking + 0.5 * (ids + preferences)
    if variant == "mmrec":
        expected = expected + 0.5 * model.preference["visual"].square().mean()
    assert torch.allclose(model.loss(embeddings, batch, features), expected, atol=1e-5)


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"num_layers": -1}, {"num_routings": -1}, {"reg": -1.0}, {"fusion": "sum"},
                {"routing": "none"}, {"variant": "official"}):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(bad))):
            GRCN.from_data(tiny, **bad)
    with pytest.raises(ConfigError, match="'confidence', 'max' or 'mean'"):
        GRCN.from_data(tiny, weighting="sum")
    with pytest.raises(DataError, match="modality"):
        GRCN.from_data(tiny, modalities=[])
