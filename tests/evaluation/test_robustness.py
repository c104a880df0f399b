import json

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Noise, Promote, SingleStep, Square, ThreatModel, Universal, pick_items, suite
from mmgraph_robust.attacks.suite import SUITES
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.evaluation import RobustnessEvaluator, find_sensitive, graph_policies, robustness
from mmgraph_robust.testing import weak_model
from mmgraph_robust.utils import unpack


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


def test_a_model_that_no_feature_reaches_is_not_attacked_and_says_why(shop):
    model = mr.models.LightGCN.from_data(shop, embedding_dim=4)
    threat = ThreatModel(["visual"], 0.5)
    entry = robustness(model, shop, [(PGD(steps=50), threat)], progress=False)["attacks"][0]
    assert entry["metrics"] == mr.evaluate(model, shop)
    assert set(entry["flags"]) == {"no_feature_path"}
    assert entry["measure"]["recall@20"]["clean"] == entry["measure"]["recall@20"]["attacked"]


def test_entries_carry_the_goals_measure_and_flags(shop, trained):
    targets = pick_items(shop, 3)
    promote = ThreatModel(["visual"], 0.3, items=targets, goal=Promote(targets))
    attacks = [(PGD(steps=5), promote), (Universal(steps=2), ThreatModel(["visual"], 0.05))]
    first, second = robustness(trained, shop, attacks, progress=False)["attacks"]
    measure = first["measure"]["exposure@20"]
    assert measure["attacked"] > measure["clean"]
    assert first["goal"]["items"] == targets
    assert first["flags"] == {}
    assert "misses_planted_weakness" in second["flags"]
    json.dumps([first, second], allow_nan=False)


def test_contradictions_and_tricks_reach_the_entries():
    model, data = weak_model("RoundedFeatures")
    threat = ThreatModel(["visual", "textual"], 0.25)
    plan = [(PGD(steps=3), threat), (Noise(), threat)]
    first, second = robustness(model, data, plan, progress=False)["attacks"]
    assert {"no_gradient", "zero_gradient", "gradient_mismatch", "weaker_than_noise"} <= set(first["flags"])
    assert "weaker_than_noise" not in second["flags"]
    quick = robustness(model, data, plan[:1], checks=False, progress=False)["attacks"][0]
    assert set(quick["flags"]) == {"no_gradient"}


def test_an_attack_that_leaves_traces_is_flagged(shop, trained):
    class Careless(Noise):
        def run(self, problem, generator, progress):
            problem.features["visual"].mul_(1.001)
            return super().run(problem, generator, progress)

    data = mr.data.with_features(shop, {"visual": shop["item"].x_visual.clone()})
    flags = robustness(trained, data, [(Careless(), ThreatModel(["visual"]))], progress=False)["attacks"][0]["flags"]
    assert "changed the data" in flags["side_effects"]


def test_the_standard_suite_is_the_default(shop, trained, monkeypatch):
    monkeypatch.setitem(SUITES, "standard", lambda problem, surrogates: [("noise", Noise()), ("PGD", PGD(4))])
    entries = robustness(trained, shop, progress=False)["attacks"]
    assert [(e["attack"], e["modalities"]) for e in entries] == [
        ("Suite", ["visual"]), ("Suite", ["textual"]), ("Suite", ["visual", "textual"]),
    ]  # fmt: skip
    assert [part["name"] for part in entries[0]["details"]["parts"]] == ["noise", "PGD"]
    assert entries[0]["details"]["worst_per_user"]["recall@20"] <= entries[0]["metrics"]["recall@20"] + 1e-9


def test_frozen_and_rebuilt_are_one_without_an_item_graph(shop, trained, monkeypatch):
    runs = []
    run = PGD.run
    monkeypatch.setattr(PGD, "run", lambda *a: (runs.append(1), run(*a))[1])
    threats = [ThreatModel(["visual"], graph=graph) for graph in ("frozen", "rebuilt")]
    entries = robustness(trained, shop, [(PGD(2), t) for t in threats], checks=False, progress=False)["attacks"]
    assert [e["graph"] for e in entries] == ["frozen", "rebuilt"]
    assert entries[0]["metrics"] == entries[1]["metrics"]
    assert len(runs) == 1


def test_values_per_user_are_kept_where_asked(shop):
    model = mr.models.VBPR.from_data(shop, embedding_dim=4)
    found = robustness(model, shop, [(PGD(2), ThreatModel(["visual"]))], per_user=["recall@20"], progress=False)
    for part in (found["clean"], found["attacks"][0]):
        values = unpack(part["per_user"]["recall@20"])
        assert values.mean() == pytest.approx(part["metrics"]["recall@20"], abs=1e-6)
    with pytest.raises(ConfigError, match="recall@30"):
        robustness(model, shop, [], per_user=["recall@30"], progress=False)


def test_one_attack_after_another_gives_what_all_at_once_give(shop, trained):
    runs = [(PGD(2), ThreatModel(["visual"], b)) for b in (0.05, 0.1)] + [(Noise(), ThreatModel(["visual"]))]
    evaluator = RobustnessEvaluator(trained, shop)
    whole = robustness(trained, shop, runs, progress=False)
    assert evaluator.clean == whole["clean"]
    for (attack, threat), entry in zip(runs, whole["attacks"], strict=True):
        alone = evaluator(attack, threat)
        assert {**alone, "seconds": 0, "flags": 0} == {**entry, "seconds": 0, "flags": 0}
        assert set(alone["flags"]) <= set(entry["flags"])


def test_of_a_threat_those_modalities_are_attacked_that_a_model_reads(shop):
    model = mr.models.VBPR.from_data(shop, modalities=["visual"], embedding_dim=4)
    evaluator = RobustnessEvaluator(model, shop)
    both = evaluator(PGD(2), ThreatModel(["visual", "textual"]))
    alone = evaluator(PGD(2), ThreatModel(["visual"]))
    assert both["metrics"] == alone["metrics"]
    assert both["modalities"] == ["visual", "textual"]
    other = evaluator(PGD(2), ThreatModel(["textual"]))
    assert other["metrics"] == evaluator.clean["metrics"]
    assert "is not shown textual" in other["flags"]["ignored_modality"]
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        evaluator(PGD(2), ThreatModel(["visaul"]))


def test_a_suite_without_gradients_is_judged_as_a_black_box(shop, trained, monkeypatch):
    monkeypatch.setitem(SUITES, "standard", lambda problem, surrogates: [("square", Square(5))])
    scores, white = ThreatModel(["visual"], 0.2, knowledge="scores"), ThreatModel(["visual"], 0.2)
    attacks = [(suite("standard"), scores), (SingleStep(), white), (suite("standard"), white)]
    entries = robustness(trained, shop, attacks, progress=False)["attacks"]
    assert [e["outcome"]["kind"] for e in entries] == ["black box", "single", "iterated"]
    assert "weaker_than_single_step" not in entries[0]["flags"]
    assert "weaker_than_single_step" in entries[2]["flags"]


def test_a_budget_of_nothing_does_not_silence_the_checks():
    model, data = weak_model("ScaledGradient")
    attacks = [(PGD(steps=2), ThreatModel(["visual", "textual"], budget)) for budget in (0.0, 0.25)]
    entries = robustness(model, data, attacks, progress=False)["attacks"]
    assert {"gradient_imbalance", "gradient_mismatch"} <= set(entries[1]["flags"])


def test_figures_of_other_weights_are_not_mixed(shop):
    model = mr.models.VBPR.from_data(shop, embedding_dim=4)
    evaluator = RobustnessEvaluator(model, shop, checks=False)
    evaluator(PGD(2), ThreatModel(["visual"], 0.05))
    mr.fit(model, shop, max_epochs=1, progress=False)
    with pytest.raises(ConfigError, match="other weights"):
        evaluator(PGD(2), ThreatModel(["visual"], 0.05))


def test_a_graph_models_sensitive_modality_is_found_through_its_graph(shop, caplog):
    model = mr.models.FREEDOM.from_data(shop, embedding_dim=8, knn_k=3)
    mr.fit(model, shop, max_epochs=10, batch_size=256, learning_rate=0.01, progress=False)
    found = mr.evaluation.find_sensitive(model, shop, budget=0.5)
    assert max(found["metric_decline"].values()) > 0
    # Plain gradients see nothing there, and nothing is named.
    assert mr.evaluation.find_sensitive(model, shop, attack=PGD(2)) is None
    assert "took nothing in any modality" in caplog.text


def test_nothing_is_sensitive_where_no_feature_reaches_the_score(shop):
    assert mr.evaluation.diagnose(mr.models.BM3.from_data(shop, embedding_dim=4), shop)["sensitive"] is None


def test_random_models_are_measured_to_the_same_numbers():
    model, data = weak_model("NoisyFeatures")
    state = torch.get_rng_state()
    first = mr.evaluate(model, data, k=(5,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert mr.evaluate(model, data, k=(5,)) == first
