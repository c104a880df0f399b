import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, GraphProblem, GraphRelaxation, Noise, Problem, ThreatModel, suite
from mmgraph_robust.attacks.item_graph import searches
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import DRAGON, FREEDOM, LATTICE, MGCN, VBPR

THREAT = ThreatModel(["visual"], 0.05)


def recall(model, data):
    return mr.evaluate(model, data, metrics=["recall"])["recall@20"]


def test_swaps_that_the_plain_gradient_misses_are_found(swappable):
    model, data = swappable
    assert recall(model, data) == 1.0
    blind = PGD()(model, data, THREAT)
    assert blind.objective == blind.clean_objective
    assert recall(model, blind.data) == 1.0
    assert "visual" in blind.flags["no_gradient"]
    found = GraphRelaxation()(model, data, THREAT)
    assert found.objective > found.clean_objective
    assert recall(model, found.data) == 0.0
    assert "no_gradient" not in found.flags
    assert bool((found.delta["visual"].norm(dim=1) <= 0.0501 * data["item"].x_visual.norm(dim=1)).all())
    frozen = GraphRelaxation()(model, data, ThreatModel(["visual"], 0.05, graph="frozen"))
    assert recall(model, frozen.data) == 1.0
    assert {"graph_path_only", "no_gradient"} <= set(frozen.flags)


@pytest.mark.parametrize("graph", ["frozen", "rebuilt"])
def test_neighbours_among_learned_projections_are_soft_as_well(swappable, graph):
    """The same data for a LATTICE with nothing but its learned graph, whose projections are the features.

    The good neighbour is a little worse than the item itself, so the plain gradient pulls it nearer.
    """
    data = swappable[1]
    model = LATTICE.from_data(data, embedding_dim=4, hidden_dim=32, num_layers=0, knn_k=2, skip=0.0)
    with torch.no_grad():
        model.latent.lins["visual"].weight.copy_(torch.eye(32))
        model.latent.lins["visual"].bias.zero_()
        model.user_id.zero_()[:, 0] = 1
        model.item_id.zero_()[:, 0] = torch.tensor([0.6] * 10 + [0.5] * 10 + [-5.0] * 10 + [0.5] * 30)
        model.item_id[:, 1] = 1
    threat = ThreatModel(["visual"], 0.05, graph=graph)
    assert recall(model, data) == 1.0
    assert recall(model, PGD()(model, data, threat).data) == 1.0
    assert recall(model, GraphRelaxation()(model, data, threat).data) == 0.0
    parts = {p["name"]: p["recall@20"] for p in suite("standard")(model, data, threat).details["parts"]}
    assert parts["item graph"] == 0.0
    assert ("neighbours" in parts) == (graph == "rebuilt")


def test_whether_a_forward_pass_searches(shop):
    """Frozen, only what a model learned is searched."""

    def answer(kind, graph="rebuilt", **kwargs):
        model = kind.from_data(shop, embedding_dim=4, **kwargs)
        return searches(Problem.from_data(model, shop, ThreatModel(["visual"], 0.05, graph=graph), "boundary", 0))

    assert answer(FREEDOM, knn_k=3)
    assert not answer(FREEDOM, "frozen", knn_k=3)
    assert answer(LATTICE, "frozen", knn_k=3)
    assert not answer(LATTICE, "frozen", knn_k=3, skip=1.0)
    assert not answer(VBPR)


@pytest.mark.parametrize("kind", [FREEDOM, LATTICE, MGCN, DRAGON])
@pytest.mark.parametrize("names", [["visual"], ["textual", "visual"]])
def test_the_forward_pass_is_the_true_one(shop, kind, names):
    model = kind.from_data(shop, embedding_dim=8, knn_k=5).eval()
    problem = Problem.from_data(model, shop, ThreatModel(names, 0.1), "boundary", 0)
    relaxed = GraphProblem(problem, candidates=4)
    delta = problem.project(problem.random(torch.Generator().manual_seed(0)))
    value, gradient = relaxed.value_and_gradient(delta)
    assert value == pytest.approx(problem.value(delta), rel=1e-5)
    plain = problem.value_and_gradient(delta)[1]
    for name in names:
        assert bool(gradient[name].any())
        assert not torch.allclose(gradient[name], plain[name])
    attacked = mr.data.with_features(shop, {m: shop["item"][f"x_{m}"] + delta[m] for m in names})
    twin = Problem.from_data(model, attacked, ThreatModel(names, 0.1), "boundary", 0)
    assert problem.value(problem.zero()) != pytest.approx(value)
    assert twin.value(twin.zero()) == pytest.approx(value, rel=1e-3)


def test_without_a_choice_it_is_the_plain_gradient(shop, trained):
    problem = Problem.from_data(trained, shop, THREAT, "boundary", 0)
    a, b = (p.value_and_gradient(p.zero()) for p in (problem, GraphProblem(problem)))
    assert a[0] == b[0]
    assert torch.equal(a[1]["visual"], b[1]["visual"])
    alone = PGD(steps=4)(trained, shop, THREAT)
    assert torch.equal(GraphRelaxation(steps=4)(trained, shop, THREAT).delta["visual"], alone.delta["visual"])
    for k in (1, 80):
        model = FREEDOM.from_data(shop, embedding_dim=4, knn_k=k)
        assert not GraphRelaxation(steps=2)(model, shop, THREAT).delta["visual"].any()


def test_it_beats_the_plain_gradient_and_noise_on_a_trained_model(shop):
    model = FREEDOM.from_data(shop, embedding_dim=16, knn_k=5)
    mr.fit(model, shop, max_epochs=30, batch_size=256, learning_rate=0.01, progress=False)
    threat = ThreatModel(["textual", "visual"], 0.1)
    before = copy.deepcopy(model.state_dict())
    values = {type(a).__name__: a(model, shop, threat) for a in (PGD(), Noise(), GraphRelaxation(restarts=2))}
    assert values["PGD"].objective == values["PGD"].clean_objective
    assert values["GraphRelaxation"].objective > max(values[n].objective for n in ("PGD", "Noise"))
    assert values["GraphRelaxation"].objective >= GraphRelaxation()(model, shop, threat).objective
    assert recall(model, values["GraphRelaxation"].data) < recall(model, shop)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


def test_the_graph_of_a_modality_that_nobody_attacks_stays(shop):
    model = FREEDOM.from_data(shop, embedding_dim=4, knn_k=5)
    result = GraphRelaxation(steps=1)(model, shop, THREAT)
    assert [kind[1] for kind in result.data.edge_types if kind[0] == "item"] == ["similar_textual"]
    graph = model.graph(shop).item_graphs["textual"]
    assert torch.equal(model.graph(result.data).item_graphs["textual"].to_dense(), graph.to_dense())


def test_bad_arguments_are_named():
    for bad in ({"candidates": 0}, {"temperature": (0.1, 1.0)}, {"temperature": (1.0, 0.0)}, {"steps": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            GraphRelaxation(**bad)
    assert "candidates=3" in repr(GraphRelaxation(candidates=3))
    assert VBPR.knn_k is None
