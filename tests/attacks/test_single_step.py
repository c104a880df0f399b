import pytest

from mmgraph_robust.attacks import SingleStep, ThreatModel
from mmgraph_robust.errors import ConfigError


def test_single_steps_in_both_normalisations(shop, trained):
    item = SingleStep("margin", "item")(trained, shop, ThreatModel(["visual"], 0.1, "matrix")).delta["visual"]
    assert float(item.norm(dim=1).std()) < 1e-4
    matrix = SingleStep("margin", "matrix")(trained, shop, ThreatModel(["visual"], 0.1)).delta["visual"]
    plain = SingleStep("margin", "item")(trained, shop, ThreatModel(["visual"], 0.1)).delta["visual"]
    part = matrix.norm(dim=1) / plain.norm(dim=1)
    assert float(part.max()) <= 1 + 1e-4
    assert float(part.min()) < 0.9
    with pytest.raises(ConfigError, match="normalise"):
        SingleStep("margin", "row")
