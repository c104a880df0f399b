import copy

import pytest
import torch
from references import bpr, cosines, neighbours, symmetric, unit

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, add_item_graphs, features
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import LATTICE
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([0, 1, 4]), torch.tensor([1, 1, 6]), torch.tensor([2, 3, 0]))


def build(data, **arguments):
    model = LATTICE.from_data(data, **{"embedding_dim": 4, "hidden_dim": 3, "knn_k": 3} | arguments)
    if model.latent.weight.numel() > 1:
        with torch.no_grad():
            model.latent.weight.copy_(torch.linspace(-0.5, 0.7, model.latent.weight.numel()))
    return model


def reference(model, features, data):
    """User vectors, item vectors of collaborative filtering, and item vectors per modality."""
    weight = torch.exp(model.latent.weight)
    share = dict(zip(model.modalities, weight / weight.sum(), strict=True))
    learned, kept = {}, {}
    for m in model.modalities:
        linear = model.latent.lins[m]
        z = torch.stack([linear.weight @ x + linear.bias for x in features[m]])
        learned[m] = share[m] * cosines(z, model.knn_k)
        kept[m] = share[m] * symmetric(cosines(features[m], model.knn_k))
    degree = sum(a.sum(1) for a in learned.values())
    graph = {}
    for m, a in learned.items():
        scaled = torch.stack([a[i] / (degree[i] * degree).sqrt() for i in range(len(a))])
        graph[m] = (1 - model.latent.skip) * scaled + model.latent.skip * kept[m]
    h = model.item_id
    for _ in range(model.num_item_layers - 1):
        h = sum(graph.values()) @ h
    parts = {m: s @ h for m, s in graph.items()}
    size = torch.stack([row.norm() for row in sum(parts.values())])[:, None]
    users, items = neighbours(data)
    near = [[len(users) + i for i in n] for n in users] + items
    layers = [torch.cat([model.user_id, model.item_id])]
    for _ in range(model.propagation.num_layers):
        x = layers[-1]
        layers.append(torch.stack([(x[i] + sum(x[j] for j in n)) / (1 + len(n)) for i, n in enumerate(near)]))
    final = sum(layers) / len(layers)
    return final[: len(users)], final[len(users) :], {m: part / size for m, part in parts.items()}


def reference_loss(model, features, data, batch):
    user, item, content = reference(model, features, data)
    item = item + sum(content.values())
    squares = sum(
        user[u].square().sum() + item[i].square().sum() + item[j].square().sum()
        for u, i, j in zip(batch.user, batch.positive, batch.negative, strict=True)
    )
    return bpr(user @ item.t(), batch) + model.reg * squares / 2 / len(batch)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_item_layers": 3}, {"collaborative": "mf"}, {"skip": 0.0}, {"skip": 1.0}, {"modalities": ["textual"]}],
    ids=repr,
)
def test_equals_the_equations_forward_loss_and_gradients(tiny, arguments):
    model = build(tiny, reg=0.5, **arguments)
    features = {m: x.clone().requires_grad_() for m, x in model.features(tiny).items()}
    embeddings = model(features, mr.Graph.from_data(tiny))
    user, item, content = reference(model, features, tiny)
    for channel, expected in ({"id": item} | content).items():
        assert torch.allclose(embeddings.user[channel], user, atol=1e-5)
        assert torch.allclose(embeddings.item[channel], expected, atol=1e-5)
    # The channels sum to the score of the paper, whose item is i + rownorm(h).
    whole = torch.stack([unit(row) for row in sum(content.values())])
    a, b = embeddings.concatenated()
    assert torch.allclose(a @ b.t(), user @ (item + whole).t(), atol=1e-5)
    loss, expected = model.loss(embeddings, BATCH, features), reference_loss(model, features, tiny, BATCH)
    assert torch.allclose(loss, expected, atol=1e-5)
    inputs = [*model.parameters(), *features.values()]
    got = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    wanted = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"modalities": ["visual"]}, {"refresh_every": 1, "num_item_layers": 2}, {"trainable_features": True}],
    ids=repr,
)
def test_keeps_the_contract(shop, arguments):
    check_model(LATTICE.from_data(shop, embedding_dim=4, **arguments), shop)


@pytest.mark.parametrize(("every", "fresh"), [(0, {0}), (1, {0, 1, 2, 3, 4}), (2, {0, 2, 4}), (3, {0, 3})])
def test_the_learned_graph_is_refreshed_as_often_as_asked(tiny, every, fresh):
    model = build(tiny, refresh_every=every)
    features, whole = model.features(tiny), model.graph(tiny)
    for _ in range(2):  # steps are counted within an epoch
        previous, kept = None, None
        for step in range(5):
            previous = model.training_graph(whole, previous, features, step, torch.Generator())
            model.zero_grad()
            embeddings = model(features, previous)
            model.loss(embeddings, BATCH, features).backward()
            moving = [p.grad is not None and bool(p.grad.any()) for p in model.latent.parameters()]
            assert all(moving) if step in fresh else not any(moving)
            assert model.item_id.grad is not None
            if step in fresh:
                kept = {m: x.detach() for m, x in embeddings.item.items()}
            # The parameters did not move, so neither does the graph that was kept.
            assert all(torch.equal(x, kept[m]) for m, x in embeddings.item.items())
            with torch.no_grad():
                for p in model.latent.parameters():
                    p.add_(0.1)
                now = model(features, previous)
            if every != 1:
                assert all(torch.equal(x, kept[m]) for m, x in now.item.items())
            else:
                assert not torch.equal(now.item["visual"], kept["visual"])
    # Evaluation reads the parameters as they are.
    assert whole.latent_graphs == {}


def test_a_defense_without_features_to_see_is_refused(shop):
    model = LATTICE.from_data(shop, embedding_dim=4)
    with pytest.raises(ConfigError, match=r"'visual'.* do not reach what 'LATTICE' trains on.*refresh_every=1"):
        mr.fit(model, shop, mr.defenses.AdversarialTraining(), max_epochs=1, progress=False)
    model = LATTICE.from_data(shop, embedding_dim=4, refresh_every=1)
    history = mr.fit(model, shop, mr.defenses.AdversarialTraining(budget=0.5), max_epochs=1, progress=False)
    assert history.records[0]["adversarial_loss"] > history.records[0]["loss"]
    with pytest.raises(ConfigError, match=r"'visual'.* do not reach what 'LATTICE' trains on.*refresh_every=1"):
        mr.fit(LATTICE.from_data(shop), shop, mr.defenses.ModalityBalancing("visual"), max_epochs=1, progress=False)


class Halved(mr.defenses.Defense):
    """Only changes features: half of them are not there."""

    def features(self, features, generator):
        return {m: x * (torch.arange(x.size(1)) % 2) for m, x in features.items()}

    def loss(self, step):
        return step.loss.new_zeros(()), {}


def test_a_defense_that_only_changes_features_is_met_or_refused(shop):
    def train(every, data, defense=None):
        model = LATTICE.from_data(shop, embedding_dim=4, knn_k=4, refresh_every=every, skip=0.0)
        mr.fit(model, data, defense, max_epochs=1, batch_size=256, progress=False)
        return list(model.parameters())

    for every in (0, 3):
        with pytest.raises(ConfigError, match=r"'Halved' changes .*'visual', which do not reach.*refresh_every=1"):
            train(every, shop, Halved())
    halved = copy.copy(shop)
    for name, x in Halved().features(features(shop), None).items():
        halved["item"][f"x_{name}"] = x
    changed, clean, given = train(1, shop, Halved()), train(1, shop), train(1, halved)
    assert all(torch.equal(a, b) for a, b in zip(changed, given, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(changed, clean, strict=True))


@pytest.mark.parametrize("stored", [False, True])
def test_a_frozen_graph_leaves_the_learned_part_to_the_attack(shop, stored):
    data = add_item_graphs(shop, 5) if stored else shop
    model = LATTICE.from_data(data, embedding_dim=8, knn_k=5, skip=0.5)
    clean = model(model.features(data), model.graph(data))
    for policy in ("frozen", "rebuilt"):
        threat = mr.attacks.ThreatModel(["visual"], 0.5, graph=policy)
        attacked = mr.attacks.PGD(steps=3)(model, data, threat)
        assert attacked.objective > attacked.clean_objective
        features = model.features(attacked.data)
        graph = mr.Graph.from_data(data)
        given = model.item_graphs(model.features(data), graph) if policy == "frozen" else {}
        expected = model(features, graph.with_item_graphs(given))
        met = model(features, model.graph(attacked.data))
        assert all(torch.allclose(x, expected.item[m], atol=1e-6) for m, x in met.item.items())
        assert not torch.allclose(met.item["visual"], clean.item["visual"], atol=1e-4)


def test_a_graph_of_another_k_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"knn_k=3 neighbours.*'visual' .got 2"):
        build(tiny).graph(add_item_graphs(tiny, 2))


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"hidden_dim": 0}, {"num_layers": -1}, {"num_item_layers": 0}, {"knn_k": 0},
                {"skip": 1.1}, {"collaborative": "ngcf"}, {"refresh_every": -1}, {"reg": -1.0}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"'LATTICE' expects {next(iter(bad))}"):
            LATTICE.from_data(tiny, **bad)
    with pytest.raises(DataError, match="at least one modality"):
        LATTICE.from_data(tiny, modalities=[])
