import pytest
import torch

from mmgraph_robust.defenses import FreeAdversarialTraining
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.models import GRCN, LATTICE, VBPR, LightGCN

from .conftest import near, same


@pytest.mark.parametrize("kind", [VBPR, GRCN])
@pytest.mark.parametrize("options", [{}, {"replays": 1}, {"relative": False, "step_size": 0.3, "replays": 2}])
def test_equals_the_algorithm_in_a_plain_loop(tiny, train, by_hand, kind, options):
    budget, delta = 0.2, torch.zeros_like(tiny["item"].x_visual)

    def step(model, clean, loss_of, optimizer, index):
        nonlocal delta
        x = clean["visual"]
        for _ in range(options.get("replays", 4)):
            z = (x + delta).requires_grad_()
            optimizer.zero_grad()
            loss_of(clean | {"visual": z}).backward()
            for i in range(len(x)):
                size = budget * (float(x[i].norm()) if options.get("relative", True) else 1.0)
                if float(z.grad[i].norm()) > 0:
                    delta[i] += options.get("step_size", 1.0) * size * z.grad[i] / z.grad[i].norm()
                if float(delta[i].norm()) > size:
                    delta[i] *= size / delta[i].norm()
            optimizer.step()

    defense = FreeAdversarialTraining(budget=budget, modalities=["visual"], **options)
    mine = train(kind, tiny, defense)
    assert near(mine, by_hand(kind, tiny, step))
    assert torch.allclose(defense._delta["visual"], delta, atol=1e-4)
    assert float(delta.norm()) > 0.1


def test_without_a_budget_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, FreeAdversarialTraining(budget=0.0, replays=1)), train(GRCN, tiny, None))


def test_it_resumes_with_its_perturbation_to_the_same_bits(tiny, train, resumed, tmp_path):
    whole = train(VBPR, tiny, FreeAdversarialTraining(budget=0.3), 3)
    assert same(resumed(VBPR, tiny, lambda: FreeAdversarialTraining(budget=0.3), 3), whole)

    class Forgetful(FreeAdversarialTraining):
        def load_state(self, state):
            """Nothing."""

    Forgetful.__name__ = "FreeAdversarialTraining"
    (tmp_path / "state.pt").unlink()
    assert not same(resumed(VBPR, tiny, lambda: Forgetful(budget=0.3), 3), whole)


def test_the_next_training_starts_without_a_perturbation(tiny, train):
    defense = FreeAdversarialTraining(budget=0.3)
    assert same(train(VBPR, tiny, defense), train(VBPR, tiny, defense))


def test_bad_arguments_and_models(tiny, shop, train, step_of):
    for bad in ({"replays": 0}, {"step_size": 0.0}, {"step_size": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            FreeAdversarialTraining(**bad)
    with pytest.raises(BudgetError):
        FreeAdversarialTraining(budget=-1.0)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, FreeAdversarialTraining())
    with pytest.raises(ConfigError, match="unknown modality"):
        train(VBPR, tiny, FreeAdversarialTraining(modalities=["odour"]))
    with pytest.raises(ConfigError, match="refresh_every=1"):
        train(LATTICE, shop, FreeAdversarialTraining())
    defense = FreeAdversarialTraining()
    step = step_of(VBPR.from_data(tiny, embedding_dim=4), tiny, defense)
    step.loss.backward()
    with pytest.raises(ConfigError, match="optimizer"):
        defense.gradients(step)
