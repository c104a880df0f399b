import pytest
import torch
from references import bpr, cosines, neighbours, propagate

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, add_item_graphs
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import FREEDOM
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([0, 1, 4]), torch.tensor([1, 1, 6]), torch.tensor([2, 3, 0]))


def build(data, **arguments):
    return FREEDOM.from_data(data, **{"embedding_dim": 4, "knn_k": 3} | arguments)


def reference(model, features, data, edges=None):
    """User vectors, item vectors of collaborative filtering, and item vectors per modality."""
    graph = {m: (cosines(x, model.knn_k) != 0).float() / model.knn_k for m, x in features.items()}
    h = model.item_id
    for _ in range(model.num_item_layers):
        parts = {m: model.weights[m] * (g @ h) for m, g in graph.items()}
        h = sum(parts.values())
    user, item = propagate(model, data, edges)
    return user, item, parts


def reference_loss(model, features, data, batch):
    user, item, content = reference(model, features, data)
    total = bpr(user @ (item + sum(content.values())).t(), batch)
    for m, x in features.items():
        projected = torch.stack([model.projection[m].weight @ row + model.projection[m].bias for row in x])
        total = total + model.reg * bpr(user @ projected.t(), batch)
    return total


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_item_layers": 3, "num_layers": 1},
        {"weights": {"visual": 0.5, "textual": 0.2, "acoustic": 1.0}},
        {"modalities": ["textual"]},
        {"modalities": ["visual", "textual"]},
    ],
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
    a, b = embeddings.concatenated()
    assert torch.allclose(a @ b.t(), user @ (item + sum(content.values())).t(), atol=1e-5)
    loss, expected = model.loss(embeddings, BATCH, features), reference_loss(model, features, tiny, BATCH)
    assert torch.allclose(loss, expected, atol=1e-5)
    inputs = [*model.parameters(), *features.values()]
    for one, other in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"modalities": ["visual"]}, {"trainable_features": True}], ids=repr)
def test_keeps_the_contract(shop, arguments):
    check_model(FREEDOM.from_data(shop, embedding_dim=4, **arguments), shop)


def test_the_papers_weights_are_the_default_of_its_two_modalities(tiny):
    assert build(tiny, modalities=["visual", "textual"]).weights == {"visual": 0.1, "textual": 0.9}
    assert build(tiny, modalities=["acoustic"]).weights == {"acoustic": 1.0}
    assert build(tiny).weights == dict.fromkeys(["visual", "textual", "acoustic"], pytest.approx(1 / 3))


@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.8])
def test_every_epoch_prunes_once_and_normalises_anew(tiny, dropout):
    model = build(tiny, dropout=dropout)
    features, whole = model.features(tiny), model.graph(tiny)

    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        graphs, previous = [], None
        for step in range(3):
            previous = model.training_graph(whole, previous, features, step, generator)
            graphs.append(previous)
        assert graphs[0] is graphs[1] is graphs[2]
        return graphs[0]

    pruned = epoch(0)
    total = whole.interactions.num_edges
    assert pruned.interactions.num_edges == round((1 - dropout) * total - 0.5 + 1e-6)
    assert torch.equal(epoch(0).interactions.to_dense(), pruned.interactions.to_dense())
    if dropout > 0:
        assert not torch.equal(epoch(1).interactions.to_dense(), pruned.interactions.to_dense())
    kept = pruned.interactions.to_dense()
    assert bool((kept <= whole.interactions.to_dense()).all())
    edges = [row.nonzero().flatten().tolist() for row in kept], [row.nonzero().flatten().tolist() for row in kept.t()]
    user, item, _ = reference(model, features, tiny, edges)
    embeddings = model(features, pruned)
    assert torch.allclose(embeddings.user["id"], user, atol=1e-5)
    assert torch.allclose(embeddings.item["id"], item, atol=1e-5)
    # Evaluation sees every interaction.
    model.eval()
    user, item, _ = reference(model, features, tiny, neighbours(tiny))
    assert torch.allclose(mr.evaluation.embed(model, tiny).item["id"], item, atol=1e-5)


def test_edges_between_popular_ends_are_dropped_first(shop):
    model = FREEDOM.from_data(shop, embedding_dim=4, dropout=0.5)
    whole = model.graph(shop)
    degree = whole.user_degree[whole.interactions.row] * whole.item_degree[whole.interactions.col]
    rare = degree < degree.median()
    drawn = torch.zeros(2)
    for seed in range(20):
        pruned = model.training_graph(whole, None, {}, 0, torch.Generator().manual_seed(seed)).interactions
        kept = pruned.to_dense()[whole.interactions.row, whole.interactions.col] > 0
        drawn += torch.tensor([float(kept[rare].float().mean()), float(kept[~rare].float().mean())])
    assert drawn[0] > 1.1 * drawn[1]


def test_only_the_rows_of_the_batch_are_projected(tiny):
    model = build(tiny, trainable_features=True)
    features = model.features(tiny)
    seen = []
    model.projection["visual"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.residual["visual"].fill_(0.25)
    embeddings = model(features, model.graph(tiny))
    assert seen == []
    model.loss(embeddings, BATCH, features).backward()
    rows = [0, 1, 2, 3, 6]
    assert torch.equal(seen[0], features["visual"][rows] + 0.25)
    moved = model.residual["visual"].grad.any(1).nonzero().flatten().tolist()
    assert moved == rows


@pytest.mark.parametrize("stored", [False, True])
def test_an_attack_meets_the_graph_that_it_means(shop, stored):
    data = add_item_graphs(shop, 5) if stored else shop
    model = FREEDOM.from_data(data, embedding_dim=8, knn_k=5)
    clean = mr.evaluation.embed(model, data)
    for policy in ("frozen", "rebuilt"):
        threat = mr.attacks.ThreatModel(["visual"], 0.5, graph=policy)
        attacked = mr.attacks.Noise()(model, data, threat)
        assert "through its item graph only" in attacked.flags["graph_path_only"]
        met = mr.evaluation.embed(model, attacked.data)
        same = torch.equal(met.item["visual"], clean.item["visual"])
        assert same == (policy == "frozen")
        assert torch.equal(met.item["textual"], clean.item["textual"])
        changed = attacked.data["item"].x_visual
        fresh = mr.data.with_features(shop, {"visual": changed}) if policy == "rebuilt" else shop
        assert torch.equal(met.item["visual"], mr.evaluation.embed(model, fresh).item["visual"])
        # Gradients lead nowhere, and the attack says so.
        found = mr.attacks.PGD(steps=2)(model, data, threat)
        assert "no gradient in visual" in found.flags["no_gradient"]


def test_a_graph_of_another_k_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"knn_k=3 neighbours.*'visual' .got 4"):
        build(tiny)(mr.data.features(tiny), mr.Graph.from_data(add_item_graphs(tiny, 4)))


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"num_layers": -1}, {"num_item_layers": 0}, {"knn_k": 0}, {"dropout": 1.0},
                {"reg": -1.0}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"'FREEDOM' expects {next(iter(bad))}"):
            FREEDOM.from_data(tiny, **bad)
    with pytest.raises(ConfigError, match="weights expects one for each modality"):
        FREEDOM.from_data(tiny, weights={"visual": 1.0})
    with pytest.raises(ConfigError, match="finite weights >= 0 .got nan for 'visual'"):
        FREEDOM.from_data(tiny, modalities=["visual"], weights={"visual": float("nan")})
    with pytest.raises(DataError, match="at least one modality"):
        FREEDOM.from_data(tiny, modalities=[])
