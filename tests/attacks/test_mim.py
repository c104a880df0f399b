import pytest
import torch

from mmgraph_robust.attacks import MIM, PGD, ThreatModel
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
