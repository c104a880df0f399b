import pytest
import torch
from references import cosines, dual_branches, dual_loss, with_similar_users

from mmgraph_robust.data import Batch, add_item_graphs
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import DRAGON
from mmgraph_robust.models.weights import modality_weights
from mmgraph_robust.sparse.structure import Structure
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def scores(embeddings):
    user, item = embeddings.concatenated()
    return user @ item.t()


@pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(DRAGON.from_data(shop, modalities=modalities, embedding_dim=4, hidden_dim=7, knn_k=4), shop)


def item_graph(data, weights, k):
    return sum(w * (cosines(data["item"][f"x_{m}"], k) != 0) / k for m, w in weights.items())


CASES = [
    ({"textual": None}, {"textual": 1.0}),
    ({"visual": None, "textual": None}, {"visual": 0.1, "textual": 0.9}),
    ({"visual": 0.2, "textual": 0.3, "acoustic": 0.4}, {"visual": 0.2, "textual": 0.3, "acoustic": 0.4}),
]


@pytest.mark.parametrize(("given", "weights"), CASES)
@pytest.mark.parametrize(("hops", "user_k"), [(1, 40), (2, 2)])
def test_equals_reference(tiny, given, weights, hops, user_k):
    model = DRAGON.from_data(
        tiny, modalities=list(given), embedding_dim=4, hidden_dim=7, knn_k=3, user_k=user_k, num_item_layers=hops,
        reg=0.3, weights=None if None in given.values() else given,
    )  # fmt: skip
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    parts = dual_branches(model, tiny, 2)
    user = with_similar_users(torch.cat([u for u, _ in parts], 1), tiny, user_k)
    item = torch.cat([i for _, i in parts], 1)
    item = item + torch.linalg.matrix_power(item_graph(tiny, weights, 3), hops) @ item
    assert torch.allclose(scores(embeddings), user @ item.t(), atol=1e-5)
    for index, name in enumerate(given):
        block = slice(4 * index, 4 * index + 4)
        expected = user[:, block] @ item[:, block].t()
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), expected, atol=1e-5)
    expected = dual_loss(model, user @ item.t(), BATCH)
    assert torch.allclose(model.loss(embeddings, BATCH, features), expected, atol=1e-5)


def test_stored_item_graphs_are_taken_as_they_are(tiny):
    model = DRAGON.from_data(tiny, embedding_dim=4, knn_k=3)
    stored = add_item_graphs(tiny, 3)
    one, two = (scores(model(model.features(d), model.graph(d))) for d in (tiny, stored))
    assert torch.equal(one, two)
    flipped = {m: x.flip(0) for m, x in model.features(tiny).items()}
    frozen, rebuilt = (scores(model(flipped, g)) for g in (model.graph(tiny), model.graph(tiny).with_item_graphs({})))
    assert not torch.allclose(frozen, rebuilt, atol=1e-4)
    with pytest.raises(ConfigError, match="expects knn_k=4"):
        DRAGON.from_data(tiny, embedding_dim=4, knn_k=4).graph(stored)


def test_steps_sort_no_edges(tiny, monkeypatch):
    model = DRAGON.from_data(tiny, embedding_dim=4, knn_k=3)
    features, graph = model.features(tiny), model.graph(tiny)
    first = scores(model(features, graph))  # finds the users' neighbours and the transposes
    first.sum().backward()

    def sort(*args):
        raise RuntimeError("edges are sorted")

    monkeypatch.setattr(Structure, "from_pairs", sort)
    monkeypatch.setattr(torch, "argsort", sort)
    again = scores(model(features, graph))
    again.sum().backward()
    assert torch.equal(first, again)


def test_weights_of_the_modalities():
    assert modality_weights("X", ("textual", "visual")) == {"textual": 0.9, "visual": 0.1}
    assert modality_weights("X", ("a", "b")) == {"a": 0.5, "b": 0.5}
    assert list(modality_weights("X", ("a", "b"), {"b": 2, "a": 0})) == ["a", "b"]
    with pytest.raises(ConfigError, match="'X': weights expects one for each modality"):
        modality_weights("X", ("a", "b"), {"a": 1.0})
    for bad in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="'X' expects finite weights >= 0"):
            modality_weights("X", ("a",), {"a": bad})


@pytest.mark.parametrize(
    "bad",
    [{"embedding_dim": 0}, {"hidden_dim": 0}, {"num_layers": -1}, {"user_k": 0}, {"reg": -1.0}, {"knn_k": 0},
     {"num_item_layers": 0}, {"weights": {"visual": 1.0}}],
)  # fmt: skip
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=f"'DRAGON'.* {next(iter(bad))} "):
        DRAGON.from_data(tiny, **bad)


def test_needs_a_modality(tiny):
    with pytest.raises(DataError, match="modality"):
        DRAGON.from_data(tiny, modalities=[])
