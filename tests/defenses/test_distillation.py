import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.defenses import Step, distillation
from mmgraph_robust.defenses.base import feature_gradients as gradients
from mmgraph_robust.defenses.distillation import Distillation
from mmgraph_robust.models import GRCN, VBPR


def step_of(model, data):
    graph, features = mr.Graph.from_data(data), model.features(data)
    batch = Batch(torch.arange(4), torch.arange(4), torch.tensor([4, 5, 6, 7]))
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    return Step(model, graph, features, batch, embeddings, loss, torch.Generator().manual_seed(0), 0)


@pytest.mark.parametrize("kind", [VBPR, GRCN])
@pytest.mark.parametrize("options", [{}, {"scope": "matrix"}, {"target": "moving"}], ids=str)
def test_a_wide_box_lets_an_item_come_near_another_and_none_keeps_it(tiny, kind, options):
    model = kind.from_data(tiny, embedding_dim=4)
    step = step_of(model, tiny)
    item, negative = step.batch.positive, step.batch.negative
    clean = step.embeddings.item["visual"].detach()

    def distance(eps):
        found = Distillation("visual", eps, steps=100, **options)(step, item, negative)
        return float((found - clean[negative]).norm().detach())

    start = float((clean[item] - clean[negative]).norm())
    assert distance(0.0) == pytest.approx(start, rel=1e-5)
    wide = 3 * float(step.features["visual"].abs().max())
    assert distance(wide) < 0.7 * start


def test_parameters_are_frozen_for_the_search_only(tiny):
    model = VBPR.from_data(tiny, embedding_dim=4)
    model.item_id.requires_grad_(False)
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append([p.requires_grad for p in model.parameters()]))
    step = step_of(model, tiny)
    before = [p.requires_grad for p in model.parameters()]
    seen.clear()
    distilled = Distillation("visual", 0.1, steps=2, target="moving")(step, step.batch.positive, step.batch.negative)
    assert [any(flags) for flags in seen] == [False, False, True]
    assert [p.requires_grad for p in model.parameters()] == before
    (distilled.sum() + step.loss).backward()
    assert model.projection["visual"].grad.any()


@pytest.mark.parametrize("arguments", [{}, {"feature_scale": {"visual": 0.3}}, {"trainable_features": True}], ids=str)
def test_a_projections_own_gradient_takes_the_steps_of_autograd(tiny, arguments, monkeypatch):
    model = VBPR.from_data(tiny, embedding_dim=4, **arguments)
    step = step_of(model, tiny)
    untouched = step.features["visual"].clone()
    asked = []
    monkeypatch.setattr(distillation, "feature_gradients", lambda *a: asked.append(1) or gradients(*a))
    found = Distillation("visual", 0.5, steps=4)(step, step.batch.positive, step.batch.negative)
    assert asked == []
    assert torch.equal(step.features["visual"], untouched)
    monkeypatch.setattr(VBPR, "item_encoder", mr.Recommender.item_encoder)
    expected = Distillation("visual", 0.5, steps=4)(step, step.batch.positive, step.batch.negative)
    assert len(asked) == 4
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert float((found - step.embeddings.item["visual"][step.batch.positive]).detach().abs().max()) > 0
    one, two = (torch.autograd.grad(x.sum(), model.projection["visual"])[0] for x in (found, expected))
    assert torch.allclose(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "options", [{"random_start": True}, {"normalize": True}, {"scope": "matrix"}, {"target": "moving"}], ids=str
)
def test_what_does_not_depend_on_the_projection_alone_is_left_to_autograd(tiny, options, monkeypatch):
    step = step_of(VBPR.from_data(tiny, embedding_dim=4), tiny)
    asked = []
    monkeypatch.setattr(distillation, "feature_gradients", lambda *a: asked.append(1) or gradients(*a))
    Distillation("visual", 0.5, steps=2, **options)(step, step.batch.positive, step.batch.negative)
    assert len(asked) == 2


def test_a_subclass_with_a_forward_of_its_own_is_distilled_by_it(tiny):
    class Bent(VBPR):
        item_encoder = mr.Recommender.item_encoder
        row_encoder = mr.Recommender.row_encoder

        def forward(self, features, graph):
            found = super().forward(features, graph)
            return mr.Embeddings(found.user, found.item | {"visual": -(3 * found.item["visual"]).tanh()})

    step = step_of(Bent.from_data(tiny, embedding_dim=4), tiny)
    item, negative = step.batch.positive, step.batch.negative
    own = step.embeddings.item["visual"].detach()
    found = Distillation("visual", 1.0, steps=20)(step, item, negative)
    assert float((found - own[negative]).detach().norm()) < float((own[item] - own[negative]).norm())
