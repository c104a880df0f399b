import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import APGD, MIM, PGD, Attack, GraphProblem, Noise, Problem, Square, ThreatModel
from mmgraph_robust.attacks.victim import frozen
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.models import FREEDOM
from mmgraph_robust.testing import weak_model


def test_the_search_space(shop, trained):
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], 0.5), "ndcg")
    value, gradient = problem.value_and_gradient(problem.zero())
    assert abs(value - problem.value(problem.zero())) < 1e-5
    # Finite differences along the gradient agree with it.
    step = {m: 1e-2 * g / g.norm() for m, g in gradient.items()}
    rise = (problem.value(step) - problem.value({m: -d for m, d in step.items()})) / 2
    expected = float(sum((g * step[m]).sum() for m, g in gradient.items()))
    assert abs(rise - expected) < 0.1 * abs(expected)
    assert torch.allclose(problem.within(0.5).radii["visual"], 0.5 * problem.radii["visual"])
    other = problem.with_objective("margin")
    assert other.value(problem.zero()) != value
    assert other.queries == 1
    assert other.blind is None


def test_a_box_is_kept_and_one_that_excludes_clean_features_is_refused(shop, trained):
    x = shop["item"].x_visual
    result = PGD(steps=3)(trained, shop, ThreatModel(["visual", "textual"], 3.0, box="clean"))
    stored = result.data["item"].x_visual
    assert float(stored.min()) >= float(x.min())
    assert float(stored.max()) <= float(x.max())
    assert not torch.equal(stored, x)
    wide = ThreatModel(["visual", "textual"], 3.0, box={"visual": (-28.0, 28.0)})
    assert float(PGD(steps=3)(trained, shop, wide).data["item"].x_visual.abs().max()) <= 28.0
    # A limit that float32 cannot hold, and features that reach it.
    edge = shop["item"].x_visual.abs().max().item() + 0.1
    for limit in (edge, round(edge, 1) + 0.1):
        threat = ThreatModel(["visual"], 3.0, box={"visual": (-limit, limit)})
        entry = mr.evaluation.robustness(trained, shop, [(PGD(steps=3), threat)], checks=False, progress=False)
        assert "budget_overrun" not in entry["attacks"][0]["flags"]
    with pytest.raises(ConfigError, match="'box' of modality 'textual'.*clean features reach"):
        PGD(steps=1)(trained, shop, ThreatModel(["visual", "textual"], box={"textual": (0.0, 0.1)}))


def test_knowledge_bounds_what_an_attack_may_ask(shop, trained):
    with pytest.raises(ConfigError, match="'PGD' needs knowledge='white'"):
        PGD(steps=1)(trained, shop, ThreatModel(["visual"], knowledge="scores"))

    class Sly(Noise):
        """A control that looks at gradients, or asks, all the same."""

        def __init__(self, asks):
            self.asks = asks

        def run(self, problem, generator, progress):
            for _ in range(self.asks):
                problem.value(problem.zero())
            if self.asks == 0:
                problem.value_and_gradient(problem.zero())
            return problem.zero()

    with pytest.raises(ConfigError, match="gives no gradients"):
        Sly(0)(trained, shop, ThreatModel(["visual"], knowledge="ranks"))
    with pytest.raises(ConfigError, match="never asks the victim"):
        Sly(1)(trained, shop, ThreatModel(["visual"], knowledge="transfer"))
    with pytest.raises(BudgetError, match="allows 3 queries"):
        Sly(4)(trained, shop, ThreatModel(["visual"], knowledge="scores", queries=3))
    assert Sly(3)(trained, shop, ThreatModel(["visual"], knowledge="scores", queries=3)).objective is not None


def test_lists_of_training_items_hold_them(shop, trained):
    threat = ThreatModel(["visual"], 0.5, labels="train", knowledge="ranks")
    found = Square(queries=30)(trained, shop, threat)
    assert found.clean_objective < 0
    assert found.objective > found.clean_objective
    assert found.after["recall@20"] < found.before["recall@20"]


def test_ranks_are_judged_by_lists_alone(shop, trained):
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], knowledge="ranks"))
    embeddings = mr.evaluation.embed(trained, shop)
    value = float(problem.objective(embeddings))
    user, item = embeddings.concatenated()
    scores = user @ item.t()
    train = mr.data.interactions(shop, "train")
    scores[train[0], train[1]] = -torch.inf
    pairs = mr.data.interactions(shop, "test")
    rank = (scores[pairs[0]] > scores[pairs[0], pairs[1]][:, None]).sum(1) + 1
    expected = torch.where(rank <= 80, 1 / torch.log2(1 + rank.double()), torch.zeros(()).double()).mean()
    assert value == pytest.approx(-float(expected), abs=1e-5)
    # Scores that keep every order keep the value.
    doubled = mr.Embeddings({c: 2 * x for c, x in embeddings.user.items()}, embeddings.item)
    assert float(problem.objective(doubled)) == value


def test_a_random_forward_pass_is_averaged_over(shop):
    model, data = weak_model("NoisyFeatures")
    threat = ThreatModel(["visual", "textual"], 0.25)
    first, second = (PGD(steps=4)(model, data, threat) for _ in range(2))
    assert "differ" in first.flags["stochastic"]
    assert all(torch.equal(x, second.delta[m]) for m, x in first.delta.items())
    with frozen(model, 0):
        problem = Problem.from_data(model, data, threat, "bpr")
        problem.settle()
        assert problem.draws == 8
        single, mean = [], []
        for _ in range(12):
            problem.stochastic = False
            single.append(problem.value_and_gradient(problem.zero())[1]["visual"])
            problem.stochastic = True
            mean.append(problem.value_and_gradient(problem.zero())[1]["visual"] / 8)
    assert torch.stack(mean).std(0).mean() < 0.6 * torch.stack(single).std(0).mean()


def test_the_random_numbers_of_the_process_are_left_alone():
    model, data = weak_model("NoisyFeatures")
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    PGD(steps=2)(model, data, ThreatModel(["visual"], 0.1))
    assert torch.equal(torch.randn(3), expected)


def test_a_model_that_no_feature_reaches_is_refused(shop):
    model = mr.models.LightGCN.from_data(shop, embedding_dim=4)
    with pytest.raises(ConfigError, match="no item feature reaches the score of 'LightGCN'.*nothing to attack"):
        PGD(steps=1)(model, shop, ThreatModel(["visual"]))
    assert isinstance(PGD(), Attack)


@pytest.mark.parametrize("attack", [PGD(20, restarts=2), MIM(20), APGD(20)])
def test_a_search_that_can_never_move_ends(shop, attack, monkeypatch):
    """The choice of FREEDOM's neighbours has no gradient: one is enough to know it, and the outcome is the same."""
    model = FREEDOM.from_data(shop, embedding_dim=4, knn_k=3)
    problem = Problem.from_data(model, shop, ThreatModel(["visual"], 0.1), "boundary", 0)
    asked = []
    plain = Problem.value_and_gradient
    monkeypatch.setattr(Problem, "value_and_gradient", lambda p, d: asked.append(1) or plain(p, d))
    found = attack.run(problem, torch.Generator().manual_seed(0), False)
    once = len(asked)
    assert once == getattr(attack, "restarts", 1)
    monkeypatch.setattr(Problem, "repeats", False)
    again = attack.run(problem, torch.Generator().manual_seed(0), False)
    assert len(asked) - once == 20 * getattr(attack, "restarts", 1)
    assert all(torch.equal(found[m], again[m]) for m in found)


def test_what_may_change_is_asked_again(shop, trained):
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], 0.1), "boundary", 0)
    still, move = problem.zero(), problem.random(torch.Generator().manual_seed(0))
    assert problem.stuck(still)
    assert not problem.stuck(move)
    problem.stochastic = True
    assert not problem.stuck(still)
    problem.stochastic = False
    relaxed = GraphProblem(problem)
    relaxed.value_and_gradient(still)
    assert relaxed.stuck(still)  # VBPR searches no neighbours
    graphs = FREEDOM.from_data(shop, embedding_dim=4, knn_k=3)
    relaxed = GraphProblem(Problem.from_data(graphs, shop, ThreatModel(["visual"], 0.1), "boundary", 0))
    relaxed.value_and_gradient(still)
    assert not relaxed.stuck(still)


def test_momentum_that_cancels_a_gradient_is_no_end(shop, trained, monkeypatch):
    """Gradients that turn around once: their sum is zero for a moment, and then it is not."""
    problem = Problem.from_data(trained, shop, ThreatModel(["visual"], 0.1), "boundary", 0)
    one = {"visual": torch.ones_like(problem.features["visual"])}
    asked = []

    def turning(delta):
        asked.append(1)
        return 0.0, {"visual": (1 if len(asked) == 1 else -1) * one["visual"]}

    monkeypatch.setattr(problem, "value_and_gradient", turning)
    found = MIM(steps=4).run(problem, torch.Generator().manual_seed(0), False)
    assert len(asked) == 4
    assert found["visual"].shape == one["visual"].shape


def test_softness_falls_by_gradients_and_not_by_draws(shop):
    model = FREEDOM.from_data(shop, embedding_dim=4, knn_k=3)
    with frozen(model):
        problem = GraphProblem(Problem.from_data(model, shop, ThreatModel(["visual"], 0.1)), steps=5)
        problem.stochastic = True
        softness = []
        soft = problem._soft
        problem._soft = lambda x, k, s: softness.append(s) or soft(x, k, s)
        for _ in range(5):
            problem.value_and_gradient(problem.zero())
    # Eight draws of each gradient, of both modalities' graphs.
    assert len(softness) >= 40
    assert sorted(set(softness), reverse=True) == pytest.approx([1.0, 0.1**0.25, 0.1**0.5, 0.1**0.75, 0.1])
