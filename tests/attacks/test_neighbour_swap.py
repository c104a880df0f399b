import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import GraphRelaxation, NeighbourSwap, Problem, ThreatModel, neighbour_swap
from mmgraph_robust.attacks.item_graph import Candidates
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import FREEDOM, LATTICE

THREAT = ThreatModel(["visual"], 0.05)


def recall(model, data):
    return mr.evaluate(model, data, metrics=["recall"])["recall@20"]


def test_the_planted_swaps_are_found_at_the_least_change(swappable):
    model, data = swappable
    result = NeighbourSwap()(model, data, THREAT)
    assert recall(model, result.data) == 0.0
    size = result.delta["visual"][:10].norm(dim=1)
    # From the bisector of good and bad an item is 0.02 / sqrt(2) away.
    assert torch.allclose(size, torch.full((10,), 0.02 / 2**0.5), rtol=0.03)
    frozen = NeighbourSwap()(model, data, ThreatModel(["visual"], 0.05, graph="frozen"))
    assert recall(model, frozen.data) == 1.0
    assert "no_gradient" in frozen.flags
    short = NeighbourSwap()(model, data, ThreatModel(["visual"], 0.008))
    assert short.objective == short.clean_objective
    tied = NeighbourSwap(objective="margin")(model, data, ThreatModel(["visual"], 0.05, items=range(3)))
    assert recall(model, tied.data) == pytest.approx(0.7)
    assert not tied.delta["visual"][3:].any()


@pytest.mark.parametrize(
    ("kind", "scope", "norm"), [(FREEDOM, "matrix", "l2"), (FREEDOM, "matrix", "linf"), (LATTICE, "item", "linf")]
)
def test_it_gains_under_every_budget_and_goes_on_from_another_attack(shop, kind, scope, norm):
    model = kind.from_data(shop, embedding_dim=8, knn_k=4)
    threat = ThreatModel(["visual", "textual"], 0.1, scope, norm)
    alone = NeighbourSwap(rounds=3)(model, shop, threat)
    assert alone.objective > alone.clean_objective
    start = GraphRelaxation(steps=5)
    assert NeighbourSwap(rounds=3, start=start)(model, shop, threat).objective >= start(model, shop, threat).objective
    assert NeighbourSwap(rounds=1)(model, shop, threat).objective <= alone.objective


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_planned_moves_do_turn_the_order_of_two_cosines(shop, norm):
    model = FREEDOM.from_data(shop, embedding_dim=8, knn_k=4)
    threat = ThreatModel(["visual"], 0.1, norm=norm)
    problem = Problem.from_data(model, shop, threat, "boundary", 0)
    delta = problem.project({"visual": 0.5 * problem.random(torch.Generator().manual_seed(0))["visual"]})["visual"]
    near = Candidates.of(problem.features["visual"] + delta, 4, 5)
    worth = torch.randn(near.cosine.shape, generator=torch.Generator().manual_seed(1))
    swaps = neighbour_swap._Swaps.of(near, worth)
    mover = neighbour_swap._Mover(problem, "visual", delta, 0.02)
    cosine = torch.nn.functional.cosine_similarity
    x = problem.features["visual"]
    for find, who in ((mover.row, swaps.row), (mover.item, swaps.item)):
        able, direction, size = find(swaps)
        assert 0 < int(able.sum()) < able.numel()
        for index in able.nonzero().flatten()[:40].tolist():
            moved = {"visual": delta.clone()}
            moved["visual"][who[index]] += size[index] * direction[index]
            moved = x + problem.project(moved)["visual"]
            a = cosine(moved[swaps.row[index]], moved[swaps.item[index]], dim=0)
            b = cosine(moved[swaps.row[index]], moved[swaps.rival[index]], dim=0)
            before = swaps.cosine[index] - swaps.limit[index]
            assert float(before * swaps.sign[index]) <= 0
            assert float((a - b) * swaps.sign[index]) > -1e-6


def test_bounded_memory_changes_nothing(shop):
    model = FREEDOM.from_data(shop, embedding_dim=8, knn_k=4)
    a, b = (NeighbourSwap(rounds=3, memory=m)(model, shop, THREAT).delta["visual"] for m in (4000, 1 << 27))
    assert torch.equal(a, b)
    assert bool(a.any())


def test_models_without_an_item_graph_and_bad_arguments(shop, trained):
    result = NeighbourSwap()(trained, shop, THREAT)
    assert not result.delta["visual"].any()
    assert "visual" in result.flags["no_gradient"]
    for bad in ({"rounds": 0}, {"candidates": 0}, {"memory": 0}, {"overshoot": 0.0}, {"objective": "boundry"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            NeighbourSwap(**bad)
    described = NeighbourSwap(start=GraphRelaxation(steps=3)).describe()
    assert described["start"]["steps"] == 3


def test_the_start_has_its_own_objective(shop, monkeypatch):
    seen = []
    run = GraphRelaxation.run

    def watched(self, problem, *rest):
        seen.append(type(problem.objective).__name__)
        return run(self, problem, *rest)

    monkeypatch.setattr(GraphRelaxation, "run", watched)
    model = mr.models.FREEDOM.from_data(shop, embedding_dim=4, knn_k=3)
    for objective in ("boundary", "ndcg"):
        NeighbourSwap(1, start=GraphRelaxation(2, objective=objective))(model, shop, ThreatModel(["visual"], 0.1))
    assert seen == ["BoundaryObjective", "NDCGObjective"]
