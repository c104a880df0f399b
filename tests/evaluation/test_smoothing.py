import math

import pytest
import torch
from scipy import stats

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, ThreatModel
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.evaluation import SmoothedCertificate, certify, smoothed_recall
from mmgraph_robust.evaluation.smoothing import binomial_lower, mean_lower
from mmgraph_robust.models import FREEDOM, VBPR, LightGCN

THREAT = ThreatModel(["visual"], 0.002, scope="matrix")


@pytest.mark.parametrize("level", [0.05, 1e-6])
def test_clopper_and_pearson(level):
    counts = torch.tensor([0, 1, 57, 100, 199, 200, 57])
    expected = [0.0 if c == 0 else stats.beta.ppf(level, c, 200 - c + 1) for c in counts.tolist()]
    assert torch.allclose(binomial_lower(counts, 200, level), torch.tensor(expected, dtype=torch.double), atol=1e-9)


@pytest.mark.parametrize("draws", ["coins", "steady", "spread"])
def test_betting_covers_the_mean_and_is_tight_where_draws_are_steady(draws):
    generator = torch.Generator().manual_seed(0)
    mean, fails, gaps = 0.3, 0, []
    for _ in range(150):
        x = torch.rand(100, generator=generator, dtype=torch.double)
        x = {"coins": (x < mean).double(), "steady": mean + 0.02 * (x - 0.5), "spread": 2 * mean * x}[draws]
        bound = mean_lower(x, 0.1)
        fails += bound > mean
        gaps.append(mean - bound)
    # 15 are expected at most; 27 would be a chance of one in a thousand.
    assert fails < 27
    assert sum(gaps) / 150 < {"coins": 0.1, "steady": 0.02, "spread": 0.06}[draws]
    assert mean_lower(torch.zeros(10, dtype=torch.double), 0.1) == 0.0


def noisy_recall(model, data, deviation, draws=40):
    generator = torch.Generator().manual_seed(99)
    x = data["item"].x_visual
    values = []
    for _ in range(draws):
        noisy = mr.data.with_features(data, {"visual": x + deviation * torch.randn(x.shape, generator=generator)})
        values.append(mr.evaluate(model, noisy, k=[10], metrics=["recall"])["recall@10"])
    return sum(values) / draws


def test_no_attack_contradicts_it(shop, trained):
    deviation = 0.1 * float(shop["item"].x_visual.square().mean().sqrt())
    certificate = smoothed_recall(trained, shop, THREAT, sigma=0.1, samples=40, k=10)
    assert isinstance(certificate, SmoothedCertificate)
    assert certificate.distance == pytest.approx(math.sqrt(80 * 12) / 0.1, rel=1e-5)
    assert certificate.expected_lower < certificate.expected
    assert certificate.expected == pytest.approx(noisy_recall(trained, shop, deviation), abs=0.02)
    assert certificate.recall(0.0) == pytest.approx(certificate.expected_lower)
    for budget in (0.001, 0.004):
        attacked = PGD(steps=10)(trained, shop, ThreatModel(["visual"], budget, scope="matrix")).data
        assert noisy_recall(trained, attacked, deviation) >= certificate.recall(budget) - 0.01
    values = [certificate.recall(b) for b in (0.0, 0.001, 0.002, 0.02)]
    assert values == sorted(values, reverse=True)
    assert values[3] < 1e-3
    described = certificate.describe()
    assert described["certified_recall"] == certificate.recall(0.002)
    assert described["certified_majority_recall"] == certificate.majority_recall(0.002)
    assert 0 <= described["abstained"] < 1


def test_in_the_linear_case_it_approaches_the_exact_radius():
    """One rival, one place: the membership's probability is that of a Gaussian half-space."""
    pairs = torch.tensor([[0, 0], [0, 2]])
    x = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 0.0]])
    data = mr.data.build(pairs, torch.tensor([2, 0]), {"visual": x}, num_items=3)
    model = VBPR.from_data(data, embedding_dim=2)
    with torch.no_grad():
        model.item_id.zero_()
        model.user.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
        model.projection["visual"].copy_(torch.eye(2))
    threat = ThreatModel(["visual"], 0.01, scope="matrix")
    exact = float(certify(model, data, threat, k=1).largest)
    assert exact == pytest.approx(0.1 / math.sqrt(2) / float(x.norm()), rel=1e-3)
    smooth = smoothed_recall(model, data, threat, sigma=0.1, samples=800, k=1)
    assert 0.7 * exact < float(smooth.largest) <= exact
    assert smooth.majority_recall(0.7 * exact) == 1.0
    assert smooth.majority_recall(1.01 * exact) == 0.0


def test_distance_counts_what_every_budget_allows(shop, trained):
    def distance(*args, **kwargs):
        threat = ThreatModel(["visual"], 0.01, *args, **kwargs)
        return smoothed_recall(trained, shop, threat, sigma=0.5, samples=2, k=10).distance

    x = shop["item"].x_visual
    unit = 0.5 * float(x.square().mean().sqrt())
    assert distance("item") == pytest.approx(float(x.norm()) / unit, rel=1e-5)
    assert distance("item", items=[3, 4]) == pytest.approx(float(x[3:5].norm()) / unit, rel=1e-5)
    assert distance("matrix", "linf") == pytest.approx(distance("matrix"), rel=1e-5)
    assert distance("item", "linf") == pytest.approx(distance("item"), rel=1e-5)
    assert distance("item", "l1", relative=False) == pytest.approx(distance("item", relative=False), rel=1e-5)
    assert distance("item", relative=False) == pytest.approx(math.sqrt(80) / unit, rel=1e-5)
    both = ThreatModel(["visual", "textual"], 0.01, "matrix")
    joint = smoothed_recall(trained, shop, both, sigma=0.5, samples=2).distance
    assert joint == pytest.approx(math.sqrt(80 * 22) / 0.5, rel=1e-5)


def test_any_model_and_any_policy(shop):
    model = FREEDOM.from_data(shop, embedding_dim=4, knn_k=5)
    rebuilt = smoothed_recall(model, shop, ThreatModel(["textual"], 0.01, items=[0]), sigma=0.5, samples=20)
    frozen = smoothed_recall(model, shop, ThreatModel(["textual"], 0.01, graph="frozen"), sigma=0.5, samples=20)
    clean = mr.evaluate(model, shop, metrics=["recall"])["recall@20"]
    # Noise on one item only, and noise that nobody reads.
    assert rebuilt.expected == pytest.approx(clean, abs=0.05)
    assert frozen.expected == pytest.approx(clean)
    immune = LightGCN.from_data(shop, embedding_dim=4)
    certificate = smoothed_recall(immune, shop, ThreatModel(["visual"], 3.0), sigma=0.5, samples=20)
    assert certificate.recall(100.0) == pytest.approx(certificate.expected_lower)
    assert certificate.distance == 0.0
    assert model.training


def test_seeds_repeat_and_bad_input_is_named(shop, trained):
    a, b = (smoothed_recall(trained, shop, THREAT, sigma=0.1, samples=5, seed=1).expected for _ in range(2))
    assert a == b
    for bad in ({"sigma": 0.0}, {"sigma": math.inf}, {"samples": 1}, {"confidence": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            smoothed_recall(trained, shop, THREAT, **({"sigma": 0.1} | bad))
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        smoothed_recall(trained, shop, ThreatModel(["visul"]), sigma=0.1)
    with pytest.raises(BudgetError, match=">= 0"):
        smoothed_recall(trained, shop, THREAT, sigma=0.1, samples=2).recall(math.inf)


def test_a_modality_of_zeros_adds_nothing(shop, trained):
    zeros = mr.data.with_features(shop, {"visual": torch.zeros_like(shop["item"].x_visual)})
    relative = smoothed_recall(trained, zeros, ThreatModel(["visual"]), sigma=0.5, samples=40)
    assert relative.distance == 0
    assert relative.recall(0.1) == relative.recall(0.0) > 0
    absolute = smoothed_recall(trained, zeros, ThreatModel(["visual"], relative=False), sigma=0.5, samples=40)
    assert absolute.recall(0.1) == absolute.majority_recall(0.1) == 0
    assert absolute.recall(0.0) == relative.recall(0.0)


def test_the_certificate_does_not_rest_on_the_draws_of_the_defense(shop, trained, monkeypatch):
    drawn = []
    real = torch.randn

    def randn(*args, **kwargs):
        result = real(*args, **kwargs)
        drawn.append(result)
        return result

    model = mr.defenses.Smoothed(trained, shop, sigma=0.1, samples=3)
    monkeypatch.setattr(torch, "randn", randn)
    mr.evaluate(model, shop)
    own = list(drawn)
    drawn.clear()
    smoothed_recall(trained, shop, ThreatModel(["visual", "textual"], 0.01, scope="matrix"), sigma=0.1, samples=3)
    assert own
    assert drawn
    assert not any(a.shape == b.shape and torch.equal(a, b) for a in own for b in drawn)


def test_an_immune_model_that_reads_less_and_unknown_names(shop):
    model = mr.models.BM3.from_data(shop, embedding_dim=4, modalities=["visual"])
    threat = ThreatModel(["visual", "textual"], 0.01)
    assert smoothed_recall(model, shop, threat, sigma=0.5, samples=4).distance > 0
    wrong = ThreatModel(["visul"], 0.01)
    with pytest.raises(ConfigError, match="visul"):
        smoothed_recall(model, shop, wrong, sigma=0.5, samples=4)
    with pytest.raises(ConfigError, match="visul"):
        certify(model, shop, wrong)
