import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.defenses import ModalityBalancing, Step
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import GRCN, MMGCN, VBPR, LightGCN


def step_of(model, data, batch, index=0):
    graph, features = mr.Graph.from_data(data), model.features(data)
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    return Step(model, graph, features, batch, embeddings, loss, torch.Generator().manual_seed(0), index)


@pytest.fixture
def batch():
    return Batch(torch.arange(7), torch.arange(7), torch.tensor([3, 7, 5, 6, 0, 1, 2]))


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
@pytest.mark.parametrize("options", [
    {}, {"unit": "absolute", "eps": 0.3}, {"steps": 5}, {"other": "mean", "include_id": True}, {"weight": 0.1},
])  # fmt: skip
def test_equals_a_slow_plain_reference(tiny, batch, kind, options):
    """All items have to be distilled together: in a graph model each one's change reaches the others."""
    model = kind.from_data(tiny, embedding_dim=4)
    defense = ModalityBalancing("visual", **options)
    step = step_of(model, tiny, batch)
    defense.setup(model, tiny, step.graph)
    got, numbers = defense.loss(step)

    x = tiny["item"].x_visual
    eps = options.get("eps", 0.25) * (1.0 if options.get("unit") == "absolute" else float(x.square().mean() ** 0.5))
    steps = options.get("steps", 3)
    channels = model(step.features, step.graph)

    def encode(z):
        full = torch.stack(
            [z[batch.positive.tolist().index(i)] if i in batch.positive else x[i] for i in range(len(x))]
        )
        return model(step.features | {"visual": full}, step.graph).item["visual"]

    z = x[batch.positive].clone()
    for _ in range(steps):
        z = z.detach().requires_grad_()
        e = encode(z)
        distance = sum(
            (e[i] - channels.item["visual"][j].detach()).square().sum()
            for i, j in zip(batch.positive.tolist(), batch.negative.tolist(), strict=True)
        )
        (g,) = torch.autograd.grad(distance, z)
        z = z.detach() - eps / steps * g.sign()
        z = torch.max(torch.min(z, x[batch.positive] + eps), x[batch.positive] - eps)
    distilled = encode(z.detach())
    total, others = 0.0, [c for c in channels.channels if c != "visual" and (options.get("include_id") or c != "id")]
    for u, i, j in zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True):
        user = channels.user["visual"][u]
        lost = user @ channels.item["visual"][i] - user @ distilled[i]
        cover = sum(channels.user[o][u] @ (channels.item[o][i] - channels.item[o][j]) for o in others)
        if options.get("other") == "mean":
            cover = cover / len(others)
        total = total + torch.relu(lost - cover)
    expected = options.get("weight", 1.0) * total / 7
    assert torch.allclose(got, expected, atol=1e-5)
    assert numbers["active_hinges"] > 0
    # Both margins are trained: gradients agree too.
    mine = torch.autograd.grad(got, list(model.parameters()), retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-5)


def test_one_triple_per_item_and_at_most_pairs(shop):
    model = VBPR.from_data(shop, embedding_dim=4)
    positive = torch.tensor([1, 1, 2, 3, 3, 3])
    batch = Batch(torch.arange(6), positive, torch.tensor([7, 8, 9, 10, 11, 12]))
    step = step_of(model, shop, batch)
    assert sorted(positive[ModalityBalancing("visual")._draw(step)].tolist()) == [1, 2, 3]
    assert ModalityBalancing("visual", pairs=2)._draw(step).numel() == 2


def test_every_second_step_with_twice_the_weight(tiny, batch):
    model = VBPR.from_data(tiny, embedding_dim=4)
    once, twice = ModalityBalancing("visual"), ModalityBalancing("visual", every=2)
    for defense in (once, twice):
        defense.setup(model, tiny, mr.Graph.from_data(tiny))
    assert float(twice.loss(step_of(model, tiny, batch, index=1))[0].detach()) == 0
    a, b = (float(d.loss(step_of(model, tiny, batch, index=2))[0].detach()) for d in (once, twice))
    assert b == pytest.approx(2 * a)


def test_balancing_makes_the_sensitive_modality_matter_less_under_attack(shop):
    falls = {}
    for defense in (None, ModalityBalancing("visual")):
        model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
        mr.fit(model, shop, defense, max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
        attacked = mr.attacks.PGD(steps=10)(model, shop, mr.attacks.ThreatModel(["visual"], 0.05)).data
        a, b = (mr.evaluate(model, d, metrics=["recall"])["recall@20"] for d in (shop, attacked))
        falls[type(defense).__name__] = (a - b) / a
    assert falls["ModalityBalancing"] < 0.6 * falls["NoneType"]


def test_bad_arguments_and_models(tiny):
    graph = mr.Graph.from_data(tiny)
    for bad in ({"weight": -1.0}, {"eps": float("inf")}, {"pairs": 0}, {"steps": 0}, {"every": 0},
                {"unit": "metres"}, {"other": "max"}):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ModalityBalancing("visual", **bad)
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        ModalityBalancing("visuel").setup(VBPR.from_data(tiny), tiny, graph)
    with pytest.raises(ConfigError, match="nothing to balance"):
        ModalityBalancing("visual").setup(LightGCN.from_data(tiny), tiny, graph)
    alone = VBPR.from_data(tiny, modalities=["visual"])
    with pytest.raises(DataError, match="another modality"):
        ModalityBalancing("visual").setup(alone, tiny, graph)
    ModalityBalancing("visual", include_id=True).setup(alone, tiny, graph)
