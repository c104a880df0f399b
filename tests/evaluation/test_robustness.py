import pytest

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Noise, ThreatModel
from mmgraph_robust.evaluation import find_sensitive, graph_policies, robustness


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


def test_frozen_and_rebuilt_stand_side_by_side(swappable):
    model, data = swappable
    result = graph_policies(model, data, ThreatModel(["visual"], 0.05), k=[20], progress=False)
    assert [entry["attack"] for entry in result["attacks"]] == ["Noise", "PGD", "GraphRelaxation", "NeighbourSwap"]
    for entry in result["attacks"]:
        assert entry["frozen"]["metrics"] == result["clean"]
        assert "graph_path_only" in entry["frozen"]["flags"]
    plain, relaxed = result["attacks"][1:3]
    assert plain["rebuilt"]["metrics"] == result["clean"]
    assert "no_gradient" in plain["rebuilt"]["flags"]
    assert relaxed["rebuilt"]["metrics"]["recall@20"] == result["worst"]["rebuilt"]["recall@20"] == 0.0
    assert result["worst"]["frozen"] == result["clean"]


def test_policies_of_models_without_an_item_graph_agree(shop, trained):
    result = graph_policies(trained, shop, ThreatModel(["visual"], 0.05), [PGD(steps=3)], k=[20], progress=False)
    (entry,) = result["attacks"]
    assert entry["frozen"]["metrics"] == entry["rebuilt"]["metrics"]
    assert result["worst"]["frozen"]["recall@20"] < result["clean"]["recall@20"]
