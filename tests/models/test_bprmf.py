import pytest
import torch

from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import BPRMF
from mmgraph_robust.testing import check_model


def test_equals_the_equations(tiny):
    model = BPRMF.from_data(tiny, embedding_dim=4, reg=0.5)
    embeddings = model({}, Graph.from_data(tiny))
    pairs = [(0, 1), (1, 1), (0, 2), (1, 3)]
    users, items = torch.tensor(pairs).t()
    expected = torch.stack([sum(model.user_id[u, d] * model.item_id[i, d] for d in range(4)) for u, i in pairs])
    assert torch.allclose(embeddings.scores(users, items), expected, atol=1e-6)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 3]))
    ranking = -torch.log(torch.sigmoid(expected[:2] - expected[2:])).mean()
    rows = model.user_id[[0, 1]], model.item_id[[1, 1]], model.item_id[[2, 3]]
    norms = sum(x.square().sum().sqrt() for x in rows)
    assert torch.allclose(model.loss(embeddings, batch, {}), ranking + 0.5 * norms / 2, atol=1e-6)


def test_keeps_the_contract_and_reads_nothing(shop):
    model = BPRMF.from_data(shop, embedding_dim=4)
    check_model(model, shop, uses_graph=False)
    assert (model.feature_path, model.modalities) == ("none", ())


@pytest.mark.parametrize("bad", [{"embedding_dim": 0}, {"reg": -1.0}])
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        BPRMF.from_data(tiny, **bad)
