import pytest
import torch
from references import bpr, cosines, neighbours, propagate, symmetric, unit

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, Graph, add_item_graphs
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import MGCN
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([0, 1, 4]), torch.tensor([1, 1, 6]), torch.tensor([2, 3, 0]))


def build(data, **arguments):
    return MGCN.from_data(data, **{"embedding_dim": 4, "knn_k": 3} | arguments)


def affine(linear, x):
    return linear.weight @ x + linear.bias


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def reference(model, features, data):
    """Per node: the vector of behaviour, and the parts of the side vector by modality."""
    users, items = neighbours(data)
    views = {}
    for m, x in features.items():
        gates = [sigmoid(affine(model.purifier[m], affine(model.projection[m], row))) for row in x]
        view = model.item_id * torch.stack(gates)
        for _ in range(model.num_item_layers):
            view = symmetric(cosines(x, model.knn_k)) @ view
        zero = torch.zeros(view.size(1))
        mine = [sum((view[i] / (len(n) * len(items[i])) ** 0.5 for i in n), zero) for n in users]
        views[m] = torch.cat([torch.stack(mine), view])
    behaviour = torch.cat(propagate(model, data))
    parts = {m: [] for m in views}
    for node, own in enumerate(behaviour):
        v = {m: view[node] for m, view in views.items()}
        share = dict.fromkeys(v, torch.tensor(1.0))
        if len(v) > 1:
            weight = {
                m: torch.exp(model.fusion.query.weight @ torch.tanh(affine(model.fusion.lin, x))) for m, x in v.items()
            }
            share = {m: w / sum(weight.values()) for m, w in weight.items()}
        common = sum(share[m] * x for m, x in v.items())
        for m, x in v.items():
            specific = sigmoid(affine(model.preference[m], own)) * (x - common) if len(v) > 1 else 0
            parts[m].append((specific + share[m] * x) / (len(v) + 1))
    return behaviour, {m: torch.stack(rows) for m, rows in parts.items()}


def contrast(side, behaviour, rows, temperature):
    a, b = [unit(side[r]) for r in rows], [unit(behaviour[r]) for r in rows]
    total = 0
    for k, x in enumerate(a):
        logits = torch.stack([x @ y / temperature for y in b])
        total = total - torch.log(torch.exp(logits[k]) / torch.exp(logits).sum())
    return total / len(rows)


def reference_loss(model, features, data, batch):
    behaviour, parts = reference(model, features, data)
    side = sum(parts.values())
    size = model.num_users
    user, item = (behaviour + side)[:size], (behaviour + side)[size:]
    squares = sum(
        user[u].square().sum() + item[i].square().sum() + item[j].square().sum()
        for u, i, j in zip(batch.user, batch.positive, batch.negative, strict=True)
    )
    loss = bpr(user @ item.t(), batch) + model.reg * squares / 2 / len(batch)
    for rows in (batch.user.tolist(), (batch.positive + size).tolist()):
        loss = loss + model.contrast * contrast(side, behaviour, rows, model.temperature)
    return loss


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_item_layers": 2, "num_layers": 1},
        {"num_item_layers": 0},
        {"modalities": ["textual"]},
        {"modalities": ["visual", "textual"]},
    ],
    ids=repr,
)
def test_equals_the_equations_forward_loss_and_gradients(tiny, arguments):
    model = build(tiny, reg=0.5, contrast=0.7, **arguments)
    features = {m: x.clone().requires_grad_() for m, x in model.features(tiny).items()}
    embeddings = model(features, Graph.from_data(tiny))
    behaviour, parts = reference(model, features, tiny)
    final = behaviour + sum(parts.values())
    for channel, expected in ({"id": behaviour} | parts).items():
        assert torch.allclose(embeddings.user[channel], final[:10], atol=1e-5)
        assert torch.allclose(embeddings.item[channel], expected[10:], atol=1e-5)
    user, item = embeddings.concatenated()
    assert torch.allclose(user @ item.t(), final[:10] @ final[10:].t(), atol=1e-5)
    loss, expected = model.loss(embeddings, BATCH, features), reference_loss(model, features, tiny, BATCH)
    assert torch.allclose(loss, expected, atol=1e-5)
    inputs = [*model.parameters(), *features.values()]
    for one, other in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"modalities": ["visual"]}, {"trainable_features": True}], ids=repr)
def test_keeps_the_contract(shop, arguments):
    check_model(MGCN.from_data(shop, embedding_dim=4, **arguments), shop)


def test_features_act_through_the_gates_even_where_the_graph_is_frozen(shop):
    data = add_item_graphs(shop, 10)
    model = MGCN.from_data(data, embedding_dim=8)
    assert (model.feature_path, model.knn_k) == ("direct", 10)
    clean = mr.evaluation.embed(model, data)
    moved = {}
    for policy in ("frozen", "rebuilt"):
        attacked = mr.attacks.PGD(steps=3)(model, data, mr.attacks.ThreatModel(["visual"], 0.3, graph=policy))
        assert attacked.objective > attacked.clean_objective
        assert set(Graph.from_data(attacked.data).item_graphs) == (
            # Nothing has touched the texts: their stored graph is what rebuilding would give.
            {"visual", "textual"} if policy == "frozen" else {"textual"}
        )
        moved[policy] = mr.evaluation.embed(model, attacked.data).item["visual"]
        assert not torch.allclose(moved[policy], clean.item["visual"], atol=1e-5)
    assert not torch.allclose(moved["frozen"], moved["rebuilt"], atol=1e-5)


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"num_layers": -1}, {"num_item_layers": -1}, {"knn_k": 0}, {"contrast": -1.0},
                {"temperature": 0.0}, {"reg": -1.0}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"'MGCN' expects {next(iter(bad))}"):
            MGCN.from_data(tiny, **bad)
    with pytest.raises(DataError, match="at least one modality"):
        MGCN.from_data(tiny, modalities=[])
