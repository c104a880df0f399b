import pytest

import mmgraph_robust as mr
from mmgraph_robust.attacks import APGD, Noise, ThreatModel, Transfer, suite
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import VBPR


def test_transfer_asks_a_surrogate_only(shop, trained):
    surrogate = VBPR.from_data(shop, embedding_dim=16, reg=0.1, seed=5)
    mr.fit(surrogate, shop, max_epochs=40, batch_size=256, learning_rate=0.01, progress=False)
    threat = ThreatModel(["visual"], 0.1, knowledge="transfer")
    asked = []
    handle = trained.register_forward_hook(lambda *_: asked.append(1))
    try:
        result = Transfer(surrogate, APGD(steps=15))(trained, shop, threat)
    finally:
        handle.remove()
    assert len(asked) == 3
    white = APGD(steps=15)(trained, shop, ThreatModel(["visual"], 0.1))
    noise = Noise()(trained, shop, threat)
    assert white.objective > result.objective > noise.objective
    own = Transfer(trained, APGD(steps=15))(trained, shop, threat)
    assert own.objective == pytest.approx(white.objective, rel=1e-4)
    assert Transfer(surrogate).describe()["surrogate"] == "VBPR"
    both = [(Transfer(model, APGD(steps=15)), threat) for model in (surrogate, trained)]
    entries = mr.evaluation.robustness(trained, shop, both, checks=False, progress=False)["attacks"]
    assert [e["objective"]["attacked"] for e in entries] == [result.objective, own.objective]
    assert suite(surrogates=[surrogate]).describe() != suite(surrogates=[trained]).describe()
    assert surrogate.training
    with pytest.raises(ConfigError, match="can be no surrogate"):
        Transfer(mr.models.LightGCN.from_data(shop))
    other = mr.synthetic(num_users=20, num_items=10, modalities={"visual": 12})
    with pytest.raises(ConfigError, match="built for"):
        Transfer(VBPR.from_data(other))(trained, shop, threat)


def test_a_suite_with_surrogates_is_checked_without_them(shop, trained):
    surrogate = VBPR.from_data(shop, embedding_dim=4)
    outcome = mr.evaluation.robustness(
        trained, shop, [(suite(surrogates=[surrogate]), ThreatModel(["visual"], 0.05))], progress=False
    )
    assert "misses_planted_weakness" not in outcome["attacks"][0]["flags"]


def test_a_surrogate_without_a_gradient_is_told(shop, trained):
    blind = mr.models.FREEDOM.from_data(shop, embedding_dim=4, knn_k=3)
    found = Transfer(blind, APGD(3))(trained, shop, ThreatModel(["visual"], 0.1))
    assert not found.delta["visual"].any()
    assert "no gradient in visual" in found.flags["no_gradient"]
