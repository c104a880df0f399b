import pytest
import torch

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import MMGCN
from mmgraph_robust.testing import check_model


@pytest.mark.parametrize("combine", ["concat", "add"])
def test_equals_reference(tiny, combine):
    from references import mmgcn

    model = MMGCN.from_data(tiny, embedding_dim=4, hidden_dim=5, combine=combine)
    assert set(model.projection) == {"visual"}  # the one that is wider than hidden_dim
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), mmgcn(model, tiny, combine), atol=1e-5)


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(MMGCN.from_data(shop, modalities=modalities, embedding_dim=4, num_layers=2), shop)


def test_loss_by_hand(tiny):
    model = MMGCN.from_data(tiny, embedding_dim=4, reg=0.5)
    features = model.features(tiny)
    embeddings = model(features, Graph.from_data(tiny))
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    user, item = embeddings.concatenated()
    s = user @ item.t()
    ranking = -torch.nn.functional.logsigmoid(torch.stack([s[0, 1] - s[0, 2], s[1, 1] - s[1, 3]])).mean()
    users = model.id[[0, 1, 0, 1]]
    items = model.id[[11, 11, 12, 13]]
    ids = (users.square() + items.square()).mean()
    preferences = sum(p.square().mean() for p in model.preference.values())
    expected = ranking + 0.5 * (ids + preferences)
    assert torch.allclose(model.loss(embeddings, batch, features), expected, atol=1e-5)


def test_bad_arguments(tiny):
    for bad in ({"num_layers": 0}, {"hidden_dim": 0}, {"reg": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            MMGCN.from_data(tiny, **bad)
    with pytest.raises(ConfigError, match="concat"):
        MMGCN.from_data(tiny, combine="False")
    with pytest.raises(ConfigError, match="unknown modality"):
        MMGCN.from_data(tiny, project=["odour"])
    with pytest.raises(DataError, match="modality"):
        MMGCN.from_data(tiny, modalities=[])
