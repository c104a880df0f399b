import pytest

from mmgraph_robust.attacks import APGD, SPSA, Noise, Square, ThreatModel
from mmgraph_robust.errors import ConfigError


@pytest.mark.parametrize(
    "attack", [SPSA(queries=120), SPSA(queries=120, directions="normal"), Square(queries=120)], ids=repr
)
@pytest.mark.parametrize("knowledge", ["scores", "ranks"])
def test_black_boxes_rise_above_noise_within_their_queries(shop, trained, attack, knowledge):
    threat = ThreatModel(["visual"], 0.2, knowledge=knowledge, queries=100)
    asked = []
    handle = trained.register_forward_hook(lambda *_: asked.append(1))
    try:
        result = attack(trained, shop, threat)
    finally:
        handle.remove()
    assert result.details["queries"] <= 100
    # Two forward passes look for randomness, one measures the outcome.
    assert len(asked) <= 100 + 3
    noise = Noise()(trained, shop, threat)
    assert result.objective > noise.objective
    assert (
        result.objective <= APGD(steps=20)(trained, shop, ThreatModel(["visual"], 0.2)).objective
        or knowledge == "ranks"
    )


@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_signs_reach_every_column_under_l1(shop, trained, scope):
    moved = SPSA(queries=60)(trained, shop, ThreatModel(["visual"], 0.2, scope, "l1")).delta["visual"]
    assert int(moved.any(0).sum()) == moved.size(1)


@pytest.mark.parametrize("bad", [{"queries": 0}, {"sigma": 0.0}, {"directions": "up"}, {"samples": 0}])
def test_bad_arguments_of_spsa(bad):
    with pytest.raises(ConfigError):
        SPSA(**bad)
