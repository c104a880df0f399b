import pytest
import torch

from mmgraph_robust.attacks import Noise, Problem, Square, ThreatModel
from mmgraph_robust.attacks.victim import frozen
from mmgraph_robust.errors import ConfigError


def test_bad_arguments_of_square():
    with pytest.raises(ConfigError, match="share"):
        Square(share=0.0)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_over_the_matrix_a_block_moves_and_the_rest_stays(shop, trained, norm):
    threat = ThreatModel(["visual"], 0.1, scope="matrix", norm=norm)
    with frozen(trained):
        problem = Problem.from_data(trained, shop, threat)
        generator = torch.Generator().manual_seed(0)
        delta = problem.project({"visual": problem.normal("visual", generator)})["visual"]
        owned = torch.arange(80)
        moved = Square()._moved(problem, "visual", delta, owned, 0.01, generator)
    changed = moved != delta
    assert changed.sum() == round(0.1 * 80) * round(0.1 * 12)
    order = {"l1": 1, "l2": 2}[norm]
    size = float(problem.radii["visual"])
    # What the block had is spent again: no more and no less.
    assert float(moved.double().norm(order)) == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_over_the_matrix_it_beats_noise(shop, trained, norm):
    threat = ThreatModel(["visual"], 0.3, scope="matrix", norm=norm)
    found = Square(150)(trained, shop, threat)
    assert (found.delta["visual"] != 0).sum() > 80
    assert found.objective > Noise()(trained, shop, threat).objective
