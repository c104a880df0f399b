import pytest
import torch
from contract import BATCH, Contract, dense_scores
from references import leaky, neighbours, unit

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import DualGNN


class TestDualGNN(Contract):
    kind = DualGNN
    arguments = {"embedding_dim": 4, "hidden_dim": 7}


def branches(model, data, num_layers):
    """Weighted users and items per modality."""
    users, items = neighbours(data)
    num_users = len(users)
    near = [[i + num_users for i in n] for n in users] + items
    result = []
    for index, m in enumerate(model.modalities):
        first, _, last = model.mlp[m]
        content = [last.weight @ leaky(first.weight @ x + first.bias) + last.bias for x in data["item"][f"x_{m}"]]
        x = torch.stack([unit(row) for row in [*model.preference[m], *content]])
        total = x
        for _ in range(num_layers):
            rows = []
            for neighbourhood in near:
                messages = (x[j] / (len(neighbourhood) * len(near[j])) ** 0.5 for j in neighbourhood)
                rows.append(sum(messages, torch.zeros(x.size(1))))
            x = torch.stack(rows)
            total = total + x
        weighted = [model.user_weight[u, index] * total[u] for u in range(num_users)]
        result.append((torch.stack(weighted), total[num_users:]))
    return result


def with_neighbours(user, data, k):
    users, _ = neighbours(data)
    rows = []
    for u, own in enumerate(users):
        shared = [(-len(set(own) & set(other)), v) for v, other in enumerate(users) if v != u]
        near = sorted(pair for pair in shared if pair[0] < 0)[:k]
        weights = torch.softmax(torch.tensor([-float(count) for count, _ in near]), 0)
        rows.append(user[u] + sum((w * user[v] for w, (_, v) in zip(weights, near, strict=True)), torch.zeros(1)))
    return torch.stack(rows)


def reference_loss(model, scores, reg):
    total = 0.0
    for u, i, j in zip(*(ids.tolist() for ids in BATCH.ids), strict=True):
        total = total - torch.log2(torch.sigmoid(scores[u, i] - scores[u, j])) / len(BATCH)
    preferences = sum(sum((p[u] ** 2).mean() for u in BATCH.user.tolist()) / 4 for p in model.preference.values())
    return total + reg * (preferences + (model.user_weight**2).mean())


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual", "acoustic"]])
@pytest.mark.parametrize("user_k", [2, 40])
def test_equals_reference(tiny, modalities, user_k):
    model = DualGNN.from_data(tiny, modalities=modalities, embedding_dim=4, hidden_dim=7, user_k=user_k, reg=0.3)
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    parts = branches(model, tiny, 2)
    user = with_neighbours(sum(u for u, _ in parts), tiny, user_k)
    scores = user @ sum(i for _, i in parts).t()
    assert torch.allclose(dense_scores(embeddings), scores, atol=1e-5)
    for (_, item), name in zip(parts, modalities, strict=True):
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), user @ item.t(), atol=1e-5)
    assert torch.allclose(model.loss(embeddings, BATCH, features), reference_loss(model, scores, 0.3), atol=1e-5)


def test_user_weights_start_as_shares(tiny):
    weight = DualGNN.from_data(tiny, embedding_dim=4).user_weight
    assert torch.allclose(weight.sum(1), torch.ones(10))
    assert float(weight.std(0).min()) > 0


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
