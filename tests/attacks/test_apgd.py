import pytest

from mmgraph_robust.attacks import APGD, PGD, ThreatModel
from mmgraph_robust.attacks.apgd import _checkpoints
from mmgraph_robust.errors import ConfigError


@pytest.fixture(scope="module")
def threat():
    return ThreatModel(["visual"], 0.05)


def test_apgd_does_no_less_than_pgd_with_a_poor_step(shop, trained, threat):
    poor = PGD(steps=20, step_size=0.01)(trained, shop, threat)
    found = APGD(steps=20)(trained, shop, threat)
    assert found.objective > poor.objective
    assert found.objective >= PGD(steps=20)(trained, shop, threat).objective - 0.02 * abs(found.clean_objective)
    assert (
        APGD(steps=10, restarts=2)(trained, shop, threat).objective >= APGD(steps=10)(trained, shop, threat).objective
    )
    with pytest.raises(ConfigError, match="steps >= 1"):
        APGD(steps=0)


def test_checkpoints_of_apgd_are_those_of_the_paper():
    assert sorted(_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
