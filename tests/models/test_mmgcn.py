import pytest
import torch
from references import mmgcn

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import MMGCN
from mmgraph_robust.testing import check_model


@pytest.mark.parametrize("combine", ["concat", "add"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_reference(tiny, combine, num_layers):
    model = MMGCN.from_data(tiny, embedding_dim=4, hidden_dim=5, combine=combine, num_layers=num_layers)
    assert set(model.projection) == {"visual"}  # the one that is wider than hidden_dim
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), mmgcn(model, tiny, combine), atol=1e-5)


def test_the_toolboxs_tables_never_train(shop, tiny):
    model = MMGCN.from_data(tiny, embedding_dim=4, hidden_dim=3, variant="mmrec")
    assert set(model.projection) == {"visual"}  # whatever the widths
    user, item = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    assert torch.allclose(user @ item.t(), mmgcn(model, tiny), atol=1e-5)
    model = MMGCN.from_data(shop, embedding_dim=4, variant="mmrec")
    tables = {"id", "preference_visual", "preference_textual"}
    assert set(dict(model.named_buffers())) == tables
    before = {name: x.clone() for name, x in model.state_dict().items()}
    mr.fit(model, shop, max_epochs=1, progress=False)
    still = {name for name, x in model.state_dict().items() if torch.equal(x, before[name])}
    assert still == tables
    # Trained or not, they start from the same numbers.
    paper = MMGCN.from_data(shop, embedding_dim=4, project=["visual"])
    twin = MMGCN.from_data(shop, embedding_dim=4, variant="mmrec")
    assert all(torch.equal(x, twin.state_dict()[name]) for name, x in paper.state_dict().items())


def test_only_the_first_layers_output_map_starts_xavier_normal(shop):
    firsts, seconds = [], []
    for seed in range(5):
        convs = MMGCN.from_data(shop, seed=seed).convs["visual"]
        firsts.append(convs[0].lin_out.weight.std().item())
        seconds.append(convs[1].lin_out.weight.std().item())
    assert sum(firsts) / 5 == pytest.approx((2 / (12 + 64 + 64)) ** 0.5, rel=0.03)
    assert sum(seconds) / 5 == pytest.approx(1 / (3 * 128) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    "arguments", [{"num_layers": 2}, {"modalities": ["visual"]}, {"variant": "mmrec"}, {"combine": "add"}], ids=repr
)
def test_keeps_the_contract(shop, arguments):
    check_model(MMGCN.from_data(shop, embedding_dim=4, **arguments), shop)


@pytest.mark.parametrize("variant", ["paper", "mmrec"])
def test_loss_by_hand(tiny, variant):
    model = MMGCN.from_data(tiny, embedding_dim=4, reg=0.5, variant=variant)
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
    for bad in ({"num_layers": 0}, {"hidden_dim": 0}, {"reg": -1.0}, {"variant": "official"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            MMGCN.from_data(tiny, **bad)
    with pytest.raises(ConfigError, match="concat"):
        MMGCN.from_data(tiny, combine="False")
    for bad in ({"combine": "add"}, {"num_layers": 2}):
        with pytest.raises(ConfigError, match="combine 'concat' and num_layers 3 for variant 'mmrec'"):
            MMGCN.from_data(tiny, variant="mmrec", **bad)
    with pytest.raises(ConfigError, match="unknown modality"):
        MMGCN.from_data(tiny, project=["odour"])
    with pytest.raises(DataError, match="modality"):
        MMGCN.from_data(tiny, modalities=[])
