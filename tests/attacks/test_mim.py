import pytest
import torch

from mmgraph_robust.attacks import MIM, PGD, Problem, ThreatModel
from mmgraph_robust.errors import ConfigError


@pytest.fixture(scope="module")
def threat():
    return ThreatModel(["visual"], 0.05)


def test_momentum_helps_along_and_without_it_is_pgd(shop, trained, threat):
    plain = PGD(steps=6)(trained, shop, threat)
    same = MIM(steps=6, decay=0.0)(trained, shop, threat)
    assert torch.allclose(plain.delta["visual"], same.delta["visual"], atol=1e-5)
    moved = MIM(steps=6)(trained, shop, threat)
    assert not torch.allclose(plain.delta["visual"], moved.delta["visual"], atol=1e-4)
    assert moved.after["recall@20"] < moved.before["recall@20"]
    with pytest.raises(ConfigError, match="decay"):
        MIM(decay=-1.0)


@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_two_steps_by_hand(shop, trained, scope, monkeypatch):
    """Of gradients of very different length and shape, so that only their l1 norms weigh them alike."""
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], 0.1, scope))
    x, generator = problem.features["visual"], torch.Generator().manual_seed(0)
    first, second = torch.randn(x.shape, generator=generator), 1e-3 * torch.randn(x.shape, generator=generator) ** 3
    answers = iter([first, second])
    # Worse than anything else, so that the last perturbation is the best.
    monkeypatch.setattr(problem, "value_and_gradient", lambda delta: (-1e9, {"visual": next(answers)}))
    found = MIM(steps=2, decay=0.7, step_size=0.3).run(problem, generator, False)["visual"]
    expected = torch.zeros_like(x)
    for rows in [slice(i, i + 1) for i in range(80)] if scope == "item" else [slice(0, 80)]:
        one = first[rows] / first[rows].abs().sum()
        two = 0.7 * one + second[rows] / second[rows].abs().sum()
        expected[rows] = 0.3 * 0.1 * x[rows].norm() * (one / one.norm() + two / two.norm())
    assert torch.allclose(found, expected, atol=1e-5)
