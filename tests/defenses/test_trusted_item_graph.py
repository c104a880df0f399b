import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, GraphProblem, GraphRelaxation, NeighbourSwap, ThreatModel
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.data.schema import interactions
from mmgraph_robust.defenses import Smoothed, TrustedItemGraph, WrappedModel
from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.models import DRAGON, FREEDOM, LATTICE, MGCN, MMSSL, VBPR, LGMRec, SLMRec
from mmgraph_robust.sparse import SoftGraph, cosine_graph
from mmgraph_robust.testing import check_model

KINDS = [FREEDOM, LATTICE, MGCN, DRAGON]


def dense(graph):
    return torch.sparse_coo_tensor(graph.edge_index(), graph.values(), (graph.num_rows, graph.num_cols)).to_dense()


def trust_by_hand(data, floor, support):
    """With loops over pairs of items."""
    size = int(data["item"].num_nodes)
    users = [set() for _ in range(size)]
    for user, item in interactions(data, "train").t().tolist():
        users[item].add(user)
    result = torch.full((size, size), floor)
    for i in range(size):
        shared = sorted(
            (j for j in range(size) if j != i and users[i] & users[j]), key=lambda j: (-len(users[i] & users[j]), j)
        )
        for j in range(size):
            if i == j or j in shared[:support] or not users[i] or not users[j]:
                result[i, j] = 1.0
    return result


@pytest.mark.parametrize("support", [1, 3, 50])
def test_edges_count_as_far_as_users_confirm_them(tiny, support):
    model = TrustedItemGraph(FREEDOM.from_data(tiny, knn_k=4), tiny, softness=0.0, floor=0.2, support=support)
    graph = cosine_graph(model.features(tiny)["visual"], 4)
    expected = trust_by_hand(tiny, 0.2, support)
    assert (expected < 1).any()
    assert torch.allclose(dense(model.weigh(graph, 4)), dense(graph) * expected)
    weights = model.weigh(graph, 4)
    again = model.weigh(SoftGraph(weights.structure, weights.cosine, torch.full_like(weights.selection, 0.6)), 4)
    assert torch.allclose(dense(again), 0.6 * dense(weights))


@pytest.mark.parametrize("softness", [0.2, 1.0])
def test_neighbours_trade_weight_little_by_little(tiny, softness):
    model = TrustedItemGraph(FREEDOM.from_data(tiny, knn_k=3), tiny, softness=softness, candidates=2, floor=1.0)
    graph = cosine_graph(model.features(tiny)["visual"], 6)
    found = model.weigh(graph, 3)
    cosine = dense(graph)
    for item, row in enumerate(dense(found.unweighted())):
        others = [j for j in range(8) if j != item and cosine[item, j] != 0]
        values = cosine[item, others]
        temperature = softness * values.std(unbiased=False)
        low, high = values.min() - 50 * temperature, values.max() + 50 * temperature
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if torch.sigmoid((values - middle) / temperature).sum() > 2 else (low, middle)
        assert torch.allclose(row[others], torch.sigmoid((values - low) / temperature), atol=1e-4)
        assert row[item] == 1.0
        assert row.sum() == pytest.approx(3.0, abs=1e-4)


def test_further_candidates_at_weight_zero_change_nothing(tiny):
    model = TrustedItemGraph(FREEDOM.from_data(tiny, knn_k=3), tiny, candidates=2, floor=0.3)
    x = model.features(tiny)["visual"]
    narrow, wide = cosine_graph(x, 6), cosine_graph(x, 8)
    there = (dense(narrow) != 0)[wide.row.long(), wide.col.long()].float()
    soft = SoftGraph(wide.structure, wide.values(), there)
    assert torch.allclose(dense(model.weigh(soft, 3)), dense(model.weigh(narrow, 3)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_full_trust_leaves_the_model_as_it_is_and_less_does_not(tiny, kind):
    model = kind.from_data(tiny, embedding_dim=4, knn_k=4)
    features, graph = model.features(tiny), mr.Graph.from_data(tiny)
    plain = torch.cat(model(features, graph).concatenated())
    whole = torch.cat(TrustedItemGraph(model, tiny, softness=0.0, floor=1.0)(features, graph).concatenated())
    assert torch.allclose(whole, plain, atol=1e-6)
    less = torch.cat(TrustedItemGraph(model, tiny, floor=0.1, support=1)(features, graph).concatenated())
    assert not torch.allclose(less, plain, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_and_rebuilt_graphs_give_the_same_scores_on_clean_features(tiny, kind):
    model = TrustedItemGraph(kind.from_data(tiny, embedding_dim=4, knn_k=4), tiny)
    features = model.features(tiny)
    frozen = model(features, model.graph(tiny)).concatenated()
    rebuilt = model(features, mr.Graph.from_data(tiny)).concatenated()
    for a, b in zip(frozen, rebuilt, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("kind", [FREEDOM, LATTICE])
def test_it_is_a_recommender_like_any_other(tiny, kind):
    check_model(TrustedItemGraph(kind.from_data(tiny, embedding_dim=8, knn_k=4), tiny), tiny)


def test_what_attacks_compute_with_is_the_models_own_score(shop):
    """A relaxed graph holds further candidates: they must not change the score itself."""
    model = TrustedItemGraph(LATTICE.from_data(shop, embedding_dim=8, knn_k=5), shop)
    mr.fit(model, shop, max_epochs=2, progress=False)
    problem = Problem.from_data(model, shop, ThreatModel(["visual", "textual"], 0.05), "ndcg", 0)
    value, gradient = GraphProblem(problem).value_and_gradient(problem.zero())
    assert value == pytest.approx(problem.value(problem.zero()), rel=1e-4)
    assert all(bool((g != 0).any()) for g in gradient.values())


@pytest.mark.parametrize("softness", [0.3, 1.0])
def test_gradients_follow_the_choice_of_neighbours_whole(tiny, softness):
    """Its boundary and the spread that softens it, too: what were held would be hidden from attacks."""
    model = TrustedItemGraph(FREEDOM.from_data(tiny, knn_k=3), tiny, softness=softness, candidates=2, floor=0.2)
    graph = cosine_graph(model.features(tiny)["visual"].double(), 6)
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones_like(graph.values())

    def weight(cosine):
        return model.double().weigh(SoftGraph(graph.structure, cosine, ones), 3).selection

    assert torch.autograd.gradcheck(weight, graph.values().clone().requires_grad_())
    # Equal cosines have no spread, whose slope must not be infinite.
    equal = torch.full_like(ones, 0.5).requires_grad_()
    (weight(equal) * torch.rand(ones.shape, generator=generator)).sum().backward()
    assert equal.grad.isfinite().all()


def test_trained_attacked_and_saved(shop, tmp_path):
    model = TrustedItemGraph(FREEDOM.from_data(shop, embedding_dim=8, knn_k=5), shop, floor=0.05)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    mr.fit(model, shop, max_epochs=3, learning_rate=0.01, progress=False)
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    threat = ThreatModel(["visual", "textual"], 0.3)
    for attack in (GraphRelaxation(5), NeighbourSwap(3)):
        found = attack(model, shop, threat)
        assert found.objective >= found.clean_objective
    mr.save_model(model, tmp_path / "m.safetensors", shop)
    again = mr.load_model(tmp_path / "m.safetensors")
    assert type(again) is TrustedItemGraph
    assert issubclass(TrustedItemGraph, WrappedModel)
    assert again.floor == 0.05
    assert mr.evaluate(again, shop) == mr.evaluate(model, shop)


def test_a_smoothed_model_is_saved_with_its_noise(shop, tmp_path):
    model = Smoothed(VBPR.from_data(shop, embedding_dim=4), shop, sigma=0.5, samples=2)
    mr.save_model(model, tmp_path / "m.safetensors")
    again = mr.load_model(tmp_path / "m.safetensors")
    assert again.deviation.min() > 0
    threat = ThreatModel(["visual"], 0.1)
    assert PGD(2)(again, shop, threat).after == PGD(2)(model, shop, threat).after


def test_bad_input(tiny, tmp_path):
    with pytest.raises(ConfigError, match="'VBPR' reads no item graph"):
        TrustedItemGraph(VBPR.from_data(tiny), tiny)
    model = FREEDOM.from_data(tiny, knn_k=3)
    with pytest.raises(ConfigError, match="floor"):
        TrustedItemGraph(model, tiny, floor=1.5)
    with pytest.raises(ConfigError, match="softness"):
        TrustedItemGraph(model, tiny, softness=-1.0)
    with pytest.raises(ConfigError, match="candidates"):
        TrustedItemGraph(model, tiny, candidates=0)
    with pytest.raises(ConfigError, match="support"):
        TrustedItemGraph(model, tiny, support=0)
    mr.save_model(TrustedItemGraph(model, tiny), tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-10])
    with pytest.raises(CheckpointError):
        mr.load_model(tmp_path / "m.safetensors")


def test_stored_item_graphs_leave_nothing_to_trust_and_are_refused(tiny):
    stored = mr.data.add_item_graphs(tiny, k=3)
    model = TrustedItemGraph(FREEDOM.from_data(tiny, embedding_dim=4, knn_k=3), tiny)
    with pytest.raises(ConfigError, match=r"hold item graphs of \['visual', 'textual', 'acoustic'\].*with_item_graphs"):
        mr.fit(model, stored, max_epochs=1, progress=False)
    with pytest.raises(ConfigError, match="chooses neighbours itself"):
        mr.evaluate(model, stored)
    # What it made itself, it reads: an attack on the frozen graph leaves it in the data.
    frozen = GraphRelaxation(steps=2)(model, tiny, ThreatModel(["visual"], 0.2, graph="frozen"))
    assert mr.evaluate(model, frozen.data) == mr.evaluate(model, tiny)


def test_the_regulariser_is_that_of_the_model(tiny):
    inner = LATTICE.from_data(tiny, embedding_dim=4, knn_k=3, reg=0.1)
    model = TrustedItemGraph(inner, tiny)
    embeddings = model(model.features(tiny), mr.Graph.from_data(tiny))
    batch = Batch(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert model.regularization(embeddings, batch) == inner.regularization(embeddings, batch) > 0


@pytest.mark.parametrize("kind", [MGCN, SLMRec, LGMRec, MMSSL])
def test_a_wrapper_of_ones_own_trains_the_models_own_loss(shop, kind):
    class Around(WrappedModel):
        """Changes nothing."""

        trains = True

        def forward(self, features, graph):
            return self.model(features, graph)

    def losses(wrap):
        model = kind.from_data(shop, embedding_dim=4)
        model = Around(model, shop) if wrap else model
        history = mr.fit(model, shop, max_epochs=2, batch_size=256, progress=False)
        return [record["loss"] for record in history.records]

    assert losses(True) == losses(False)
