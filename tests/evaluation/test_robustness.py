import pytest

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Noise, ThreatModel
from mmgraph_robust.evaluation import find_sensitive, robustness


def test_finds_the_planted_sensitive_modality(shop, trained):
    found = find_sensitive(trained, shop)
    assert shop.sensitive_modality == "visual"
    assert found["by_metric"] == found["by_margin"] == "visual"
    assert found["metric_decline"]["visual"] > 2 * abs(found["metric_decline"]["textual"])
    assert find_sensitive(mr.models.LightGCN.from_data(shop), shop) is None


def test_entries_say_what_was_measured(shop, trained):
    threat = ThreatModel(["visual"], 0.05)
    result = robustness(trained, shop, [(PGD(steps=5), threat), (Noise(), threat)], progress=False)
    assert result["clean"]["metrics"] == mr.evaluate(trained, shop)
    attacked = PGD(steps=5)(trained, shop, threat).data
    first = result["attacks"][0]
    assert first["metrics"] == mr.evaluate(trained, attacked)
    assert first["attack"] == "PGD"
    assert first["budget"] == 0.05
    assert first["margins"]["visual"] < result["clean"]["margins"]["visual"]
    assert first["margins"]["textual"] == pytest.approx(result["clean"]["margins"]["textual"])
