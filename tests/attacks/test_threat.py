import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.attacks import Promote, ThreatModel
from mmgraph_robust.errors import BudgetError, ConfigError


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 100), st.sampled_from(["item", "matrix"]), st.sampled_from(["l1", "l2", "linf"]), st.floats(0, 3),
    st.booleans(),
)  # fmt: skip
def test_projection_is_inside_and_idempotent(seed, scope, norm, budget, relative):
    g = torch.Generator().manual_seed(seed)
    x, delta = torch.randn(5, 4, generator=g), 3 * torch.randn(5, 4, generator=g)
    threat = ThreatModel(["visual"], budget, scope, norm, relative)
    radius = threat.radii({"visual": x})["visual"]
    once = threat.project(delta, radius)
    assert threat.excess(once, radius) <= 1e-6
    assert torch.allclose(threat.project(once, radius), once, atol=1e-6)
    assert threat.excess(threat.steepest(delta) * radius, radius) <= 1e-6
    size = {("l2", "item"): once.norm(dim=1), ("l2", "matrix"): once.norm(), ("linf", "item"): once.abs().amax(1),
            ("linf", "matrix"): once.abs().max(), ("l1", "item"): once.abs().sum(1),
            ("l1", "matrix"): once.abs().sum()}[norm, scope]  # fmt: skip
    assert bool((size <= radius.flatten() * (1 + 1e-5) + 1e-7).all())


def test_relative_radii_by_hand():
    x = {"visual": torch.tensor([[3.0, 4.0], [0.0, 0.0]])}
    assert ThreatModel(["visual"], 0.1).radii(x)["visual"].flatten().tolist() == pytest.approx([0.5, 0.0])
    assert float(ThreatModel(["visual"], 0.1, "matrix").radii(x)["visual"]) == pytest.approx(0.5)
    # Signs times the largest-entry radius are as long as the budget in the Euclidean norm.
    assert float(ThreatModel(["visual"], 0.1, norm="linf").radii(x)["visual"][0]) == pytest.approx(0.5 / 2**0.5)
    assert ThreatModel(["visual"], 0.1, relative=False).radii(x)["visual"].flatten().tolist() == pytest.approx(
        [0.1, 0.1]
    )


@pytest.mark.parametrize("budget", [-0.1, float("inf"), float("nan")])
def test_bad_budgets(budget):
    with pytest.raises(BudgetError, match="0.05 means 5 %"):
        ThreatModel(["visual"], budget)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": "visual"}, "list of names"),
        ({"modalities": []}, "at least one"),
        ({"modalities": ["a", "a"]}, "different names"),
        ({"modalities": ["a"], "scope": "row"}, "'scope'"),
        ({"modalities": ["a"], "norm": "l3"}, "'norm'"),
        ({"modalities": ["a"], "labels": "all"}, "'labels'"),
        ({"modalities": ["a"], "graph": "melted"}, "'graph'"),
        ({"modalities": ["a"], "goal": "promote"}, "'goal' expects Untargeted"),
        ({"modalities": ["a"], "knowledge": "grey"}, "'knowledge'"),
        ({"modalities": ["a"], "knowledge": "scores", "queries": 0}, "'queries' expects"),
        ({"modalities": ["a"], "queries": 5}, "bounds knowledge"),
        ({"modalities": ["a"], "box": (0.0, 1.0)}, "'box' expects"),
        ({"modalities": ["a"], "box": {"b": (0.0, 1.0)}}, "unknown attacked modality 'b'"),
        ({"modalities": ["a"], "box": {"a": (1.0, 0.0)}}, "low <= high"),
        ({"modalities": ["a"], "box": {"a": (float("nan"), 1.0)}}, "low <= high"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ThreatModel(**arguments)


def test_items():
    threat = ThreatModel(["a"], items=[1])
    assert threat.allowed(3, torch.device("cpu")).flatten().tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="'items' expects ids from 0 to 2"):
        ThreatModel(["a"], items=[3]).allowed(3, torch.device("cpu"))
    assert threat.describe()["items"] == [1]


def test_a_small_row_cannot_hide_behind_a_large_one():
    threat, radius = ThreatModel(["a"], 0.1), torch.tensor([[100.0], [1.0]])
    assert threat.excess(torch.tensor([[100.0], [1.5]]), radius) == pytest.approx(0.5)


def test_everything_is_described_in_plain_values():
    threat = ThreatModel(["a"], box={"a": (0, 1)}, knowledge="ranks", queries=7, goal=Promote([3], k=5))
    described = json.loads(json.dumps(threat.describe()))
    assert described["box"] == {"a": [0.0, 1.0]}
    assert described["goal"] == {"name": "Promote", "users": None, "k": 5, "items": [3]}
    assert (described["knowledge"], described["queries"]) == ("ranks", 7)
    assert ThreatModel(["a"], norm="l1").radii({"a": torch.tensor([[3.0, -4.0]])})["a"].item() == pytest.approx(0.35)
