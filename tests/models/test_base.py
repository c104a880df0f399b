import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Graph
from mmgraph_robust.errors import DataError
from mmgraph_robust.models import GRCN, MMGCN, VBPR, Embeddings, LightGCN

ALL = [LightGCN, VBPR, MMGCN, GRCN]


def relabel(data, user, item):
    edge = data["user", "interacts", "item"]
    label = (edge.val_mask * 1 + edge.test_mask * 2).long()
    edge_index = torch.stack([user[edge.edge_index[0]], item[edge.edge_index[1]]])
    features = {m: x[item.argsort()] for m, x in mr.data.features(data).items()}
    return mr.data.build(edge_index, label, features, num_users=user.numel(), num_items=item.numel())


@pytest.mark.parametrize("kind", ALL)
def test_relabelling_relabels_the_scores(tiny, kind):
    user, item = torch.randperm(10), torch.randperm(8)
    model = kind.from_data(tiny, embedding_dim=4)
    other = relabel(tiny, user, item)
    twin = kind.from_data(other, embedding_dim=4)
    state = model.state_dict()
    nodes = torch.cat([user.argsort(), item.argsort() + 10])
    for name, value in state.items():
        if value.dim() == 2 and value.size(0) in (10, 8, 18) and ("id" in name or "user" in name
                or "preference" in name or "confidence" in name):  # fmt: skip
            state[name] = value[{10: user.argsort(), 8: item.argsort(), 18: nodes}[value.size(0)]]
    twin.load_state_dict(state)
    a, b = model(model.features(tiny), Graph.from_data(tiny)).concatenated()
    c, d = twin(twin.features(other), Graph.from_data(other)).concatenated()
    assert torch.allclose((a @ b.t()), (c @ d.t())[user][:, item], atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_isolated_users_items_and_empty_features_stay_finite(tiny, kind):
    edge = tiny["user", "interacts", "item"]
    keep = (edge.edge_index[0] != 0) & (edge.edge_index[1] != 0)
    label = (edge.val_mask * 1 + edge.test_mask * 2).long()[keep]
    features = {m: x.clone() for m, x in mr.data.features(tiny).items()}
    features["visual"][2] = 0
    data = mr.data.build(edge.edge_index[:, keep], label, features, num_users=10, num_items=8)
    model = kind.from_data(data, embedding_dim=4)
    embeddings = model(model.features(data), Graph.from_data(data)).check_finite()
    embeddings.scores(torch.tensor([0, 1]), torch.tensor([0, 2])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ALL)
def test_saved_models_come_back(tiny, kind, tmp_path):
    model = kind.from_data(tiny, embedding_dim=4, seed=5)
    mr.save_model(model, tmp_path / "m.safetensors")
    twin = mr.load_model(tmp_path / "m.safetensors")
    assert type(twin) is kind
    assert twin.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_features_of_another_size_are_refused(tiny, shop):
    with pytest.raises(DataError, match=r"modality 'visual' expects shape \[8, 6\]"):
        VBPR.from_data(tiny, modalities=["visual"]).features(shop)


def test_embeddings_contract():
    one = {"id": torch.randn(3, 2)}
    with pytest.raises(DataError, match="channels"):
        Embeddings(one, {"visual": torch.randn(4, 2)})
    with pytest.raises(DataError, match="one width"):
        Embeddings(one, {"id": torch.randn(4, 3)})
    e = Embeddings(one | {"visual": torch.randn(3, 4)}, {"id": torch.randn(5, 2), "visual": torch.randn(5, 4)})
    pair = torch.tensor([1]), torch.tensor([4])
    assert torch.allclose(
        e.scores(*pair) - e.subset(["id"]).scores(*pair), e.subset(["visual"]).scores(*pair), atol=1e-6
    )
    with pytest.raises(DataError, match="unknown channel"):
        e.subset(["text"])
    e.item["id"][3, 0] = float("nan")
    with pytest.raises(mr.errors.NonFiniteError, match="item embedding of channel 'id' is not finite, first in row 3"):
        e.check_finite()


def test_a_recommender_without_equations_says_so(tiny):
    model = mr.Recommender(10, 8, {})
    with pytest.raises(NotImplementedError):
        model({}, Graph.from_data(tiny))
    with pytest.raises(mr.errors.ConfigError, match="did you mean 'embedding_dim'"):
        VBPR.from_data(tiny, embeding_dim=3)
