import pytest
import torch

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import GRCN
from mmgraph_robust.testing import check_model


def test_equals_reference(tiny):
    from references import grcn

    model = GRCN.from_data(tiny, embedding_dim=4)
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), grcn(model, tiny), atol=1e-5)


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(GRCN.from_data(shop, modalities=modalities, embedding_dim=4), shop)


def test_routing_reaches_users(tiny):
    model = GRCN.from_data(tiny, embedding_dim=4)
    still = GRCN.from_data(tiny, embedding_dim=4, num_routings=0)
    graph, features = Graph.from_data(tiny), model.features(tiny)
    moved, kept = model(features, graph), still(features, graph)
    assert not torch.allclose(moved.user["visual"], kept.user["visual"])


def test_loss_by_hand(tiny):
    model = GRCN.from_data(tiny, embedding_dim=4, reg=0.5)
    features = model.features(tiny)
    embeddings = model(features, Graph.from_data(tiny))
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    user, item = embeddings.concatenated()
    s = user @ item.t()
    ranking = -torch.nn.functional.logsigmoid(torch.stack([s[0, 1] - s[0, 2], s[1, 1] - s[1, 3]])).mean()
    ids = (model.id[[0, 1, 0, 1]].square() + model.id[[11, 11, 12, 13]].square()).mean()
    preferences = sum(p[[0, 1]].square().mean() for p in model.preference.values())
    expected = ranking + 0.5 * (ids + preferences)
    assert torch.allclose(model.loss(embeddings, batch, features), expected, atol=1e-5)


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"num_layers": -1}, {"num_routings": -1}, {"reg": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            GRCN.from_data(tiny, **bad)
    with pytest.raises(ConfigError, match="'max' or 'mean'"):
        GRCN.from_data(tiny, weighting="sum")
    with pytest.raises(DataError, match="modality"):
        GRCN.from_data(tiny, modalities=[])
