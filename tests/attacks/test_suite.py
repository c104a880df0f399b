import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import APGD, PGD, Attack, Noise, Promote, Suite, ThreatModel, Transfer, pick_items, suite
from mmgraph_robust.attacks import suite as build
from mmgraph_robust.attacks.suite import SUITES
from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.models import LightGCN
from mmgraph_robust.testing import WEAK_MODELS, weak_model

FAST = {"fast": lambda problem, surrogates: [
    ("noise", Noise()), ("boundary", PGD(6)), ("margin", APGD(5, objective="margin")),
    *[(f"transfer {i}", Transfer(m, PGD(4))) for i, m in enumerate(surrogates)],
]}  # fmt: skip


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setitem(SUITES, "fast", FAST["fast"])
    return "fast"


@pytest.mark.parametrize("name", WEAK_MODELS)
def test_the_standard_suite_breaks_every_weak_model_or_names_its_trick(name):
    model, data = weak_model(name)
    threat = ThreatModel(["visual", "textual"], 0.25, goal=mr.attacks.Untargeted(k=5))
    result = mr.attacks.suite("standard")(model, data, threat)
    (before,), (after,) = result.before.values(), result.after.values()
    named = set(result.flags) & set(WEAK_MODELS[name].named_by)
    assert before > 0.5
    assert named or after < 0.2 * before
    if WEAK_MODELS[name].named_by:
        assert named


def test_a_truly_immune_model_is_reported_so_with_the_reason(shop):
    model = LightGCN.from_data(shop, embedding_dim=4)
    result = suite("standard")(model, shop, ThreatModel(["visual", "textual"], 0.5))
    assert result.data is shop
    assert result.before == result.after == {"recall@20": pytest.approx(mr.evaluate(model, shop)["recall@20"])}
    assert "no item feature reaches the score of 'LightGCN'" in result.flags["no_feature_path"]
    assert set(result.flags) == {"no_feature_path"}


def test_it_is_as_strong_as_its_strongest_part_and_honest_models_raise_no_flag(shop, trained):
    threat = ThreatModel(["visual"], 0.05)
    result = suite("standard")(trained, shop, threat)
    parts = {part["name"]: part["recall@20"] for part in result.details["parts"]}
    assert result.after["recall@20"] == pytest.approx(min(parts.values()), abs=1e-6)
    assert result.after["recall@20"] < parts["noise"]
    assert result.details["worst_per_user"]["recall@20"] <= result.after["recall@20"] + 1e-9
    assert mr.evaluate(trained, result.data)["recall@20"] == pytest.approx(result.after["recall@20"], abs=1e-6)
    assert result.flags == {}


def test_the_worst_is_kept_for_every_user(shop, trained, fast):
    result = suite(fast)(trained, shop, ThreatModel(["visual"], 0.1), seed=3)
    users, worst = result.details["users"], result.details["values"]
    evaluator = mr.evaluation.Evaluator(shop, "test", [20], ["recall"])
    reached = evaluator.per_user(mr.evaluation.embed(trained, result.data))["recall@20"]
    assert torch.equal(users, evaluator.users)
    assert bool((worst <= reached + 1e-9).all())
    assert float(worst.mean()) < float(reached.mean())
    targets = pick_items(shop, 3)
    promoted = suite(fast)(trained, shop, ThreatModel(["visual"], 0.3, goal=Promote(targets), items=targets))
    assert promoted.details["worst_per_user"]["exposure@20"] >= promoted.after["exposure@20"]
    assert promoted.after["exposure@20"] > promoted.before["exposure@20"]


def test_a_killed_suite_goes_on_to_the_same_numbers(shop, trained, fast, tmp_path, monkeypatch):
    threat = ThreatModel(["visual"], 0.05)
    surrogates = [copy.deepcopy(trained)]
    whole = suite(fast, surrogates=surrogates)(trained, shop, threat)

    def killed(self, problem, generator, progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(APGD, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            suite(fast, folder=tmp_path, surrogates=surrogates)(trained, shop, threat)
    assert len(list(tmp_path.iterdir())) == 2
    with monkeypatch.context() as patch:
        # What was done is not done again.
        patch.setattr(Noise, "run", killed)
        resumed = suite(fast, folder=tmp_path, surrogates=surrogates)(trained, shop, threat)
    assert torch.equal(resumed.delta["visual"], whole.delta["visual"])
    assert resumed.after == whole.after
    assert resumed.flags == whole.flags
    assert torch.equal(resumed.details["values"], whole.details["values"])
    # Another threat, seed, model or surrogate is another result.
    own = list(tmp_path.iterdir())
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other.user[0, 0] += 1e-3
    suite(fast, folder=tmp_path, surrogates=surrogates)(trained, shop, ThreatModel(["visual"], 0.06))
    suite(fast, folder=tmp_path, surrogates=surrogates)(trained, shop, threat, seed=1)
    suite(fast, folder=tmp_path, surrogates=surrogates)(other, shop, threat)
    assert len(list(tmp_path.iterdir())) == 4 * len(own)
    suite(fast, folder=tmp_path, surrogates=[other])(trained, shop, threat)
    assert len(list(tmp_path.iterdir())) == 5 * len(own)
    path = own[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        suite(fast, folder=tmp_path, surrogates=surrogates)(trained, shop, threat)


def test_a_random_model_too_goes_on_to_the_same_numbers(fast, tmp_path):
    model, data = weak_model("NoisyFeatures")
    threat = ThreatModel(["visual"], 0.1)
    whole = suite(fast)(model, data, threat)
    suite(fast, folder=tmp_path)(model, data, threat)
    sorted(tmp_path.iterdir())[0].unlink()
    resumed = suite(fast, folder=tmp_path)(model, data, threat)
    assert torch.equal(resumed.details["values"], whole.details["values"])
    assert torch.equal(resumed.delta["visual"], whole.delta["visual"])


def test_parts_that_know_too_much_are_left_out_and_queries_are_shared(shop, trained):
    threat = ThreatModel(["visual"], 0.1, knowledge="scores", queries=40)
    result = suite("standard")(trained, shop, threat)
    assert {part["name"] for part in result.details["parts"]} == {"noise", "square", "SPSA"}
    assert 0 < sum(part["queries"] for part in result.details["parts"]) <= 40


def test_by_name(shop):
    assert isinstance(suite("standard"), Suite)
    assert isinstance(build(), Attack)
    assert suite().describe() == {"name": "Suite", "suite": "standard", "surrogates": 0}
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        suite("standart")


def test_a_rebuilt_item_graph_is_attacked_through(swappable):
    model, data = swappable
    result = suite("standard")(model, data, ThreatModel(["visual"], 0.05))
    parts = {part["name"]: part["recall@20"] for part in result.details["parts"]}
    assert parts["APGD recall"] == result.before["recall@20"]
    assert min(parts["item graph"], parts["neighbours"]) == result.after["recall@20"] < parts["APGD recall"]
    assert "no_gradient" not in result.flags
    frozen = suite("standard")(model, data, ThreatModel(["visual"], 0.05, graph="frozen"))
    assert "item graph" not in {part["name"] for part in frozen.details["parts"]}
    assert {"graph_path_only", "no_gradient"} <= set(frozen.flags)
