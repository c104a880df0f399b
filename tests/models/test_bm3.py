import pytest
import torch
from references import propagate, unit

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import BM3
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([0, 1, 4]), torch.tensor([1, 1, 6]), torch.tensor([2, 3, 0]))


def affine(linear, x):
    return torch.stack([linear.weight @ row + linear.bias for row in x])


def distance(a, b):
    # Of a target that dropout emptied, the cosine is 0.
    return sum(1 - unit(x) @ unit(y) for x, y in zip(a, b, strict=True)) / len(a)


def reference(model, features, data, batch, masks):
    """Scores and loss; `masks` holds what dropout makes of each table of targets."""
    user, item = propagate(model, data)
    item = item + model.item_id
    u, i = affine(model.predictor, user), affine(model.predictor, item)
    user_target, item_target = user.detach() * masks["user"], item.detach() * masks["item"]
    rows, columns = batch.user.tolist(), batch.positive.tolist()
    loss = distance(u[rows], item_target[columns]) + distance(i[columns], user_target[rows])
    for m, x in features.items():
        f = affine(model.projection[m], x)
        predicted = affine(model.predictor, f)[columns]
        loss = loss + model.weight * distance(predicted, item_target[columns])
        loss = loss + model.weight * distance(predicted, (f.detach() * masks[f"x_{m}"])[columns])
    squares = [torch.stack([row.square().sum() for row in x]).sum() for x in (user, item)]
    return u @ i.t(), loss + model.reg * (squares[0].sqrt() + squares[1].sqrt()) / len(item)


@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2}, {"modalities": ["textual"]}, {"dropout": 0.0}], ids=repr)
@pytest.mark.parametrize("seed", [None, 7])
def test_equals_the_equations_forward_loss_and_gradients(tiny, arguments, seed):
    model = BM3.from_data(tiny, embedding_dim=4, reg=0.5, **arguments)
    features = {m: x.clone().requires_grad_() for m, x in model.features(tiny).items()}
    embeddings = model(features, Graph.from_data(tiny).with_seed(seed))
    masks = {name.removesuffix("_mask"): x for name, x in embeddings.extra.items() if name.endswith("_mask")}
    assert set(masks) == {"user", "item", *(f"x_{m}" for m in model.modalities)}
    for mask in masks.values():
        values = {1.0} if seed is None or model.dropout == 0 else {0.0, 2.0}
        assert set(mask.unique().tolist()) == values
    score, expected = reference(model, features, tiny, BATCH, masks)
    user, item = embeddings.concatenated()
    assert torch.allclose(user @ item.t(), score, atol=1e-5)
    assert embeddings.channels == ("id",)
    loss = model.loss(embeddings, BATCH, features)
    assert torch.allclose(loss, expected, atol=1e-5)
    inputs = [*model.parameters(), *features.values()]
    for one, other in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"modalities": ["visual"]}, {"trainable_features": True}], ids=repr)
def test_keeps_the_contract(shop, arguments):
    check_model(BM3.from_data(shop, embedding_dim=4, **arguments), shop)


def test_dropout_belongs_to_the_step(tiny):
    model = BM3.from_data(tiny, embedding_dim=4, dropout=0.25)
    features, whole = model.features(tiny), model.graph(tiny)

    def losses(seed):
        generator = torch.Generator().manual_seed(seed)
        graphs = [model.training_graph(whole, None, features, step, generator) for step in range(3)]
        return [model.loss(model(features, graph), BATCH, features).item() for graph in graphs]

    first = losses(0)
    assert first == losses(0)
    assert len(set(first)) == 3
    assert first != losses(1)
    # A second pass on the same graph, as defenses make them, meets the same masks and changes no later step.
    graph = model.training_graph(whole, None, features, 0, torch.Generator().manual_seed(0))
    assert [model.loss(model(features, graph), BATCH, features).item() for _ in range(2)] == [first[0]] * 2
    state = torch.random.get_rng_state()
    model.train()
    model(features, graph)
    assert torch.equal(torch.random.get_rng_state(), state)
    large = BM3(300, 200, {"visual": 2}, embedding_dim=64, dropout=0.25)
    graph = Graph(mr.sparse.Adjacency.from_edge_index(torch.tensor([[0], [0]]), num_rows=300, num_cols=200))
    mask = large({"visual": torch.zeros(200, 2)}, graph.with_seed(1)).extra["user_mask"]
    assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)


def test_no_feature_reaches_the_score_and_it_says_so(shop):
    model = BM3.from_data(shop, embedding_dim=8)
    mr.fit(model, shop, max_epochs=1, progress=False)
    assert model.feature_path == "none"
    with pytest.raises(ConfigError, match="BM3"):
        mr.attacks.PGD(steps=2)(model, shop, mr.attacks.ThreatModel(["visual"], 0.5))
    clean = mr.evaluation.embed(model, shop)
    met = mr.evaluation.embed(model, mr.data.with_features(shop, {"visual": shop["item"].x_visual.flip(0)}))
    assert torch.equal(clean.item["id"], met.item["id"])
    assert mr.evaluation.find_sensitive(model, shop) is None


def test_features_shape_the_ids_through_the_predictor(shop):
    models = []
    for data in (shop, mr.data.with_features(shop, {"visual": shop["item"].x_visual.flip(0)})):
        model = BM3.from_data(data, embedding_dim=4)
        mr.fit(model, data, max_epochs=3, batch_size=64, learning_rate=0.01, progress=False)
        models.append(model)
    assert not torch.allclose(models[0].predictor.weight, models[1].predictor.weight, atol=1e-3)
    assert not torch.allclose(models[0].item_id, models[1].item_id, atol=1e-3)


def test_bad_arguments(tiny):
    for bad in ({"embedding_dim": 0}, {"num_layers": -1}, {"dropout": 1.0}, {"weight": -1.0}, {"reg": -1.0}):
        with pytest.raises(ConfigError, match=f"'BM3' expects {next(iter(bad))}"):
            BM3.from_data(tiny, **bad)
    with pytest.raises(DataError, match="at least one modality"):
        BM3.from_data(tiny, modalities=[])
