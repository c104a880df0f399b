import pytest
import torch

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import LightGCN
from mmgraph_robust.testing import check_model


def test_equals_reference(tiny):
    from references import lightgcn

    model = LightGCN.from_data(tiny, embedding_dim=4, num_layers=3)
    user, item = model({}, Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), lightgcn(model, tiny), atol=1e-5)


def test_keeps_the_contract(shop):
    check_model(LightGCN.from_data(shop, embedding_dim=4), shop)


def test_reads_no_features_and_says_so(shop):
    assert LightGCN.feature_path == "none"
    assert LightGCN.from_data(shop).modalities == ()


def test_regularization_by_hand(tiny):
    model = LightGCN.from_data(tiny, embedding_dim=4, reg=0.5)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    u, i, j = model.user_id[[0, 1]], model.item_id[[1, 1]], model.item_id[[2, 3]]
    expected = 0.5 * sum(float(x.square().sum().sqrt()) for x in (u, i, j)) / 2
    embeddings = model({}, Graph.from_data(tiny))
    assert float(model.regularization(embeddings, batch)) == pytest.approx(expected, rel=1e-5)
    assert not torch.equal(LightGCN.from_data(tiny, seed=1).user_id, LightGCN.from_data(tiny, seed=2).user_id)


@pytest.mark.parametrize("bad", [{"embedding_dim": 0}, {"num_layers": -1}, {"reg": -1.0}])
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        LightGCN.from_data(tiny, **bad)


def test_needs_users():
    with pytest.raises((ConfigError, DataError), match="users"):
        LightGCN(0, 3, {})
