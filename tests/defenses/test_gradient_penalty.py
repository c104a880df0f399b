import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import GradientPenalty
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import GRCN, LATTICE, MMGCN, VBPR, LightGCN

from .conftest import same


def test_equals_the_formula_on_vbpr(tiny, batch, step_of):
    """The features' gradient is written out; the penalty's own is autograd's."""
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    defense = GradientPenalty(weight=0.5, modalities=["visual", "textual"])
    step = step_of(model, tiny, defense)
    got, numbers = defense.loss(step)
    expected = 0.0
    for m in ("visual", "textual"):
        gradient = [torch.zeros(tiny["item"][f"x_{m}"].size(1)) for _ in range(model.num_items)]
        for u, i, j in zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True):
            margin = sum(
                step.embeddings.user[c][u] @ (step.embeddings.item[c][i] - step.embeddings.item[c][j])
                for c in step.embeddings.channels
            )
            pull = -torch.sigmoid(-margin) / len(batch) * (model.projection[m] @ step.embeddings.user[m][u])
            gradient[i], gradient[j] = gradient[i] + pull, gradient[j] - pull
        part = sum(g.norm() for g in gradient)
        assert numbers[f"gradient_{m}"] == pytest.approx(float(part.detach()), rel=1e-4)
        expected = expected + 0.5 * part
    assert torch.allclose(got, expected, rtol=1e-4)
    mine = torch.autograd.grad(got, list(model.parameters()), retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
def test_its_gradient_agrees_with_finite_differences(tiny, step_of, kind):
    model = kind.from_data(tiny, embedding_dim=4).double()
    data = mr.data.with_features(tiny, {m: tiny["item"][f"x_{m}"] for m in model.modalities})
    for m in model.modalities:
        data["item"][f"x_{m}"] = data["item"][f"x_{m}"].double()
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

    def penalty(move):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(move * d)
        defense = GradientPenalty()
        value = defense.loss(step_of(model, data, defense))[0]
        gradient = torch.autograd.grad(value, parameters, allow_unused=True)
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(move * d)
        slope = sum(float((g * d).sum()) for g, d in zip(gradient, directions, strict=True) if g is not None)
        return float(value.detach()), slope

    h = 1e-6
    measured = (penalty(h)[0] - penalty(-h)[0]) / (2 * h)
    assert abs(measured) > 1e-4
    assert penalty(0.0)[1] == pytest.approx(measured, rel=1e-3)


def test_with_weight_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, GradientPenalty(weight=0.0)), train(GRCN, tiny, None))


def test_it_flattens_the_loss_and_helps_under_attack(shop, trained):
    def fall(model):
        attacked = mr.attacks.PGD(steps=10)(model, shop, mr.attacks.ThreatModel(["visual", "textual"], 0.05)).data
        before, after = (mr.evaluate(model, d, metrics=["recall"])["recall@20"] for d in (shop, attacked))
        return (before - after) / before

    slopes, falls = [], [fall(trained)]
    for weight in (0.0, 3.0):
        model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
        defense = GradientPenalty(weight=weight)
        history = mr.fit(model, shop, defense, max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
        slopes.append(history.records[-1]["gradient_visual"])
        falls.append(fall(model))
    assert slopes[1] < 0.5 * slopes[0]
    assert falls[1] == falls[0]
    assert falls[2] < 0.5 * falls[0]


def test_bad_arguments_and_models(tiny, shop, train):
    with pytest.raises(ConfigError, match="weight"):
        GradientPenalty(weight=-1.0)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, GradientPenalty())
    with pytest.raises(ConfigError, match="unknown modality"):
        train(VBPR, tiny, GradientPenalty(modalities=["odour"]))
    with pytest.raises(ConfigError, match="refresh_every=1"):
        train(LATTICE, shop, GradientPenalty())
