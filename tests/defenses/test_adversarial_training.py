import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.defenses import AdversarialTraining, Step
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.models import GRCN, VBPR, LightGCN

from .conftest import same


@pytest.mark.parametrize("kind", [VBPR, GRCN])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_equals_the_formula(tiny, kind, steps, scope):
    model = kind.from_data(tiny, embedding_dim=4)
    graph, clean = mr.Graph.from_data(tiny), model.features(tiny)
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    defense = AdversarialTraining(weight=0.5, budget=0.2, modalities=["visual"], steps=steps, scope=scope)
    defense.setup(model, tiny, graph)
    features = defense.features(clean, torch.Generator())
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    got, _ = defense.loss(Step(model, graph, features, batch, embeddings, loss, torch.Generator(), 0))

    x, delta = clean["visual"], torch.zeros_like(clean["visual"])

    def norm(z):
        return z.norm(dim=1, keepdim=True) if scope == "item" else z.norm()

    radius = 0.2 * norm(x)
    for _ in range(steps):
        z = (x + delta).requires_grad_()
        changed = clean | {"visual": z}
        (g,) = torch.autograd.grad(model.loss(model(changed, graph), batch, changed), z)
        size = 1.0 if steps == 1 else 2.5 / steps
        delta = delta + size * radius * g / norm(g).clamp(min=1e-30)
        delta = delta * (radius / norm(delta).clamp(min=1e-30)).clamp(max=1)
    changed = clean | {"visual": (x + delta).detach()}
    expected = 0.5 * model.loss(model(changed, graph), batch, changed)
    assert torch.allclose(got, expected, atol=1e-5)
    for parameter, one, two in zip(
        model.parameters(),
        torch.autograd.grad(got, list(model.parameters()), retain_graph=True, allow_unused=True),
        torch.autograd.grad(expected, list(model.parameters()), allow_unused=True),
        strict=True,
    ):
        one, two = (torch.zeros_like(parameter) if g is None else g for g in (one, two))
        assert torch.allclose(one, two, atol=1e-5)
    (loss + got).backward()
    assert float(model.projection["visual"].grad.norm() if kind is VBPR else model.id.grad.norm()) > 0


def test_with_an_absolute_budget_and_one_step_it_is_amr(tiny, batch, step_of):
    """The loss and its gradients from the paper's equations for VBPR, triple by triple."""
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    defense = AdversarialTraining(weight=0.5, budget=0.7, relative=False, modalities=["visual"])
    step = step_of(model, tiny, defense)
    got, _ = defense.loss(step)
    user, item, x = model.user, step.embeddings.item, tiny["item"].x_visual
    triples = list(zip(*(t.tolist() for t in batch.ids), strict=True))

    def margin(u, i, j, moved):
        """Features enter through the visual channel only."""
        p, r = user[u].split(4)
        rest = item["textual"][i] - item["textual"][j] + item["acoustic"][i] - item["acoustic"][j]
        return p @ (item["id"][i] - item["id"][j]) + r @ (rest + (moved[i] - moved[j]) @ model.projection["visual"])

    gamma = torch.zeros_like(x)
    for u, i, j in triples:
        pull = -torch.sigmoid(-margin(u, i, j, x)) * (model.projection["visual"] @ user[u, 4:])
        gamma[i] += pull.detach()
        gamma[j] -= pull.detach()
    moved = x + 0.7 * gamma / gamma.norm(dim=1, keepdim=True).clamp(min=1e-30)
    expected = 0.5 * sum(-torch.nn.functional.logsigmoid(margin(*t, moved)) for t in triples) / len(triples)
    assert torch.allclose(got, expected, atol=1e-5)
    mine, theirs = (
        torch.autograd.grad(v, list(model.parameters()), retain_graph=True, allow_unused=True) for v in (got, expected)
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, theirs, strict=True))


def test_with_weight_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, AdversarialTraining(weight=0.0)), train(GRCN, tiny, None))


def test_it_helps_under_attack(shop, trained):
    model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
    mr.fit(model, shop, AdversarialTraining(), max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
    threat = mr.attacks.ThreatModel(["visual", "textual"], 0.05)

    def fall(m):
        attacked = mr.attacks.PGD(steps=10)(m, shop, threat).data
        a, b = (mr.evaluate(m, d, metrics=["recall"])["recall@20"] for d in (shop, attacked))
        return (a - b) / a

    assert fall(model) < 0.8 * fall(trained)


def test_bad_arguments_and_models(tiny):
    with pytest.raises(ConfigError, match="weight"):
        AdversarialTraining(weight=-1.0)
    with pytest.raises(ConfigError, match="steps"):
        AdversarialTraining(steps=0)
    with pytest.raises(BudgetError):
        AdversarialTraining(budget=-1.0)
    with pytest.raises(ConfigError, match="nothing to defend"):
        AdversarialTraining().setup(LightGCN.from_data(tiny), tiny, mr.Graph.from_data(tiny))
    with pytest.raises(ConfigError, match="unknown modality"):
        AdversarialTraining(modalities=["odour"]).setup(VBPR.from_data(tiny), tiny, mr.Graph.from_data(tiny))


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_no_loss_can_bear_is_refused(weight):
    with pytest.raises(ConfigError, match="expects weight >= 0 and finite"):
        AdversarialTraining(weight=weight)
