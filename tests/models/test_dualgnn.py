import pytest
import torch
from references import dual_branches, dual_loss, with_similar_users

from mmgraph_robust.data import Batch
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import DualGNN
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def scores(embeddings):
    user, item = embeddings.concatenated()
    return user @ item.t()


@pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(DualGNN.from_data(shop, modalities=modalities, embedding_dim=4, hidden_dim=7), shop)


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual", "acoustic"]])
@pytest.mark.parametrize("user_k", [2, 40])
def test_equals_reference(tiny, modalities, user_k):
    model = DualGNN.from_data(tiny, modalities=modalities, embedding_dim=4, hidden_dim=7, user_k=user_k, reg=0.3)
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    parts = dual_branches(model, tiny, 2)
    user = with_similar_users(sum(u for u, _ in parts), tiny, user_k)
    expected = user @ sum(i for _, i in parts).t()
    assert torch.allclose(scores(embeddings), expected, atol=1e-5)
    for (_, item), name in zip(parts, modalities, strict=True):
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), user @ item.t(), atol=1e-5)
    assert torch.allclose(model.loss(embeddings, BATCH, features), dual_loss(model, expected, BATCH), atol=1e-5)


def test_user_weights_start_as_shares(tiny):
    weight = DualGNN.from_data(tiny, embedding_dim=4).user_weight
    assert torch.allclose(weight.sum(1), torch.ones(10))
    assert bool((weight.std(0) > 0).all())


def test_ranking_loss_is_in_bits(tiny):
    """Equal scores cost one bit a triple."""
    model = DualGNN.from_data(tiny, embedding_dim=4, reg=0.0)
    with torch.no_grad():
        model.user_weight.zero_()
    features = model.features(tiny)
    assert float(model.loss(model(features, model.graph(tiny)), BATCH, features)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "bad", [{"embedding_dim": 0}, {"hidden_dim": 0}, {"num_layers": -1}, {"user_k": 0}, {"reg": -1.0}]
)
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=f"'DualGNN' expects {next(iter(bad))} "):
        DualGNN.from_data(tiny, **bad)


def test_needs_a_modality(tiny):
    with pytest.raises(DataError, match="modality"):
        DualGNN.from_data(tiny, modalities=[])
