import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import ThreatModel
from mmgraph_robust.attacks.probes import PROBES, probe
from mmgraph_robust.defenses import Smoothed
from mmgraph_robust.models import GRCN, MMGCN, VBPR, Embeddings
from mmgraph_robust.testing import weak_model

BOTH = ThreatModel(["visual", "textual"], 0.25)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("FragileDirection", set()),
        ("RoundedFeatures", {"zero_gradient", "gradient_mismatch", "weak_at_huge_budget"}),
        ("SaturatedSigmoid", {"zero_gradient", "gradient_mismatch", "weak_at_huge_budget"}),
        ("ScaledGradient", {"gradient_imbalance", "gradient_mismatch"}),
        ("StaleCache", {"stale_cache", "zero_gradient"}),
    ],
)
def test_each_trick_raises_its_flags_and_no_others(name, flags):
    assert set(probe(*weak_model(name), BOTH)) == flags


@pytest.mark.parametrize("kind", [VBPR, GRCN, MMGCN])
@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_honest_models_raise_none(shop, kind, scope):
    model = kind.from_data(shop, embedding_dim=8)
    mr.fit(model, shop, max_epochs=3, batch_size=256, learning_rate=0.01, progress=False)
    assert probe(model, shop, ThreatModel(["visual", "textual"], 0.05, scope)) == {}


def test_the_gradient_of_one_modality_is_named():
    model, data = weak_model("ScaledGradient")
    flags = probe(model, data, BOTH)
    assert "the gradient of textual is 1e+08 times smaller than that of visual" in flags["gradient_imbalance"]
    assert "textual" in flags["gradient_mismatch"]
    assert "visual" not in flags["gradient_mismatch"]


class Deaf(VBPR):
    """Says that it reads the textual modality, and does not."""

    def forward(self, features, graph):
        embeddings = super().forward(features, graph)
        return Embeddings(embeddings.user, {**embeddings.item, "textual": 0 * self.item_id})


def test_an_ignored_modality_has_no_effect_and_is_no_cache(shop):
    model = Deaf.from_data(shop, embedding_dim=4)
    flags = probe(model, shop, ThreatModel(["visual", "textual"], 0.05))
    assert "features of textual have no effect" in flags["ignored_modality"]
    assert "stale_cache" not in flags
    attacked = mr.attacks.PGD(steps=3)(model, shop, ThreatModel(["textual"], 0.5))
    assert attacked.objective == attacked.clean_objective
    assert attacked.before == attacked.after


def test_a_zero_budget_that_changes_something_is_seen(shop, trained, monkeypatch):
    check = PROBES["zero_budget"]
    problem = mr.attacks.Problem.from_data(trained, shop, ThreatModel(["visual"]))
    assert check(problem) is None
    monkeypatch.setattr(mr.attacks.Problem, "final", lambda self, delta: {"visual": self.features["visual"] + 1e-6})
    assert "changes features of visual" in check(problem)


def test_probing_leaves_the_model_alone(shop):
    model = VBPR.from_data(shop, embedding_dim=4)
    model.train()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    probe(model, shop, ThreatModel(["visual"], knowledge="scores", queries=1))
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())


def test_a_cache_is_found_inside_a_wrapper():
    model, data = weak_model("StaleCache")
    assert "stale_cache" in probe(Smoothed(model, data, samples=1, sigma=1e-6), data, BOTH)


def test_items_without_a_feature_are_not_blamed_for_their_gradient(shop):
    x = shop["item"].x_visual.clone()
    x[::4] = 0
    data = mr.data.with_features(shop, {"visual": x})
    model = mr.models.MMGCN.from_data(data, embedding_dim=4)
    assert "zero_gradient" not in probe(model, data, ThreatModel(["visual"], 0.1))
    assert mr.evaluation.gradient_health(model, data)["visual"]["zero_share"] == 0
