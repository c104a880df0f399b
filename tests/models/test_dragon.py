import pytest
import torch
from contract import BATCH, Contract, dense_scores
from test_dualgnn import branches, reference_loss, with_neighbours

from mmgraph_robust.data import add_item_graphs
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import DRAGON
from mmgraph_robust.models.weights import modality_weights


class TestDRAGON(Contract):
    kind = DRAGON
    arguments = {"embedding_dim": 4, "hidden_dim": 7, "knn_k": 4}


def item_graph(data, weights, k):
    total = torch.zeros(8, 8)
    for name, weight in weights.items():
        x = data["item"][f"x_{name}"]
        for i in range(8):
            cosine = [float(x[i] @ x[j] / (x[i].norm() * x[j].norm())) for j in range(8)]
            cosine[i] = 2.0
            for j in sorted(range(8), key=lambda j: -cosine[j])[:k]:
                total[i, j] += weight / k
    return total


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
    parts = branches(model, tiny, 2)
    user = with_neighbours(torch.cat([u for u, _ in parts], 1), tiny, user_k)
    item = torch.cat([i for _, i in parts], 1)
    item = item + torch.linalg.matrix_power(item_graph(tiny, weights, 3), hops) @ item
    assert torch.allclose(dense_scores(embeddings), user @ item.t(), atol=1e-5)
    for index, name in enumerate(given):
        block = slice(4 * index, 4 * index + 4)
        expected = user[:, block] @ item[:, block].t()
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), expected, atol=1e-5)
    expected = reference_loss(model, user @ item.t(), 0.3)
    assert torch.allclose(model.loss(embeddings, BATCH, features), expected, atol=1e-5)


def test_stored_item_graphs_are_taken_as_they_are(tiny):
    model = DRAGON.from_data(tiny, embedding_dim=4, knn_k=3)
    stored = add_item_graphs(tiny, 3)
    one, two = (dense_scores(model(model.features(d), model.graph(d))) for d in (tiny, stored))
    assert torch.equal(one, two)
    flipped = {m: x.flip(0) for m, x in model.features(tiny).items()}
    frozen, rebuilt = (dense_scores(model(flipped, g)) for g in (model.graph(tiny), model.graph(tiny).with_item_graphs({})))
    assert not torch.allclose(frozen, rebuilt, atol=1e-4)
    with pytest.raises(ConfigError, match="expects knn_k=4"):
        DRAGON.from_data(tiny, embedding_dim=4, knn_k=4).graph(stored)


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
