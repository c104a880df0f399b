import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.defenses import AdversarialTraining, Step
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.models import GRCN, VBPR, LightGCN


@pytest.mark.parametrize("kind", [VBPR, GRCN])
@pytest.mark.parametrize("steps", [1, 3])
def test_equals_the_formula(tiny, kind, steps):
    model = kind.from_data(tiny, embedding_dim=4)
    graph, clean = mr.Graph.from_data(tiny), model.features(tiny)
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    defense = AdversarialTraining(weight=0.5, budget=0.2, modalities=["visual"], steps=steps)
    defense.setup(model, tiny, graph)
    features = defense.features(clean, torch.Generator())
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    got, _ = defense.loss(Step(model, graph, features, batch, embeddings, loss, torch.Generator(), 0))

    x, delta = clean["visual"], torch.zeros_like(clean["visual"])
    radius = 0.2 * x.norm(dim=1, keepdim=True)
    for _ in range(steps):
        z = (x + delta).requires_grad_()
        changed = clean | {"visual": z}
        (g,) = torch.autograd.grad(model.loss(model(changed, graph), batch, changed), z)
        size = 1.0 if steps == 1 else 2.5 / steps
        delta = delta + size * radius * g / g.norm(dim=1, keepdim=True).clamp(min=1e-30)
        delta = delta * (radius / delta.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    changed = clean | {"visual": (x + delta).detach()}
    expected = 0.5 * model.loss(model(changed, graph), batch, changed)
    assert torch.allclose(got, expected, atol=1e-5)
    (loss + got).backward()
    assert float(model.projection["visual"].grad.norm() if kind is VBPR else model.id.grad.norm()) > 0


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
