import pytest
import torch

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import VBPR
from mmgraph_robust.testing import check_model


def test_equals_reference(tiny):
    from references import vbpr

    model = VBPR.from_data(tiny, embedding_dim=4)
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), vbpr(model, tiny), atol=1e-5)


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(VBPR.from_data(shop, modalities=modalities, embedding_dim=4), shop, uses_graph=False)


def test_loss_by_hand(tiny):
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.5)
    features = model.features(tiny)
    embeddings = model(features, Graph.from_data(tiny))
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    user, item = embeddings.concatenated()
    scores = user @ item.t()
    ranking = -torch.nn.functional.logsigmoid(torch.stack([scores[0, 1] - scores[0, 2], scores[1, 1] - scores[1, 3]]))
    norms = user[[0, 1]].norm() + item[[1, 1]].norm() + item[[2, 3]].norm()
    expected = ranking.mean() + 0.5 * norms / 2
    assert torch.allclose(model.loss(embeddings, batch, features), expected, atol=1e-6)


def test_bad_arguments(tiny):
    with pytest.raises(ConfigError, match="embedding_dim >= 1"):
        VBPR.from_data(tiny, embedding_dim=0)
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        VBPR.from_data(tiny, modalities=["visaul"])
    with pytest.raises(DataError, match="at least one modality"):
        VBPR.from_data(tiny, modalities=[])
