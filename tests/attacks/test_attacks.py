import copy

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Noise, SingleStep, ThreatModel
from mmgraph_robust.errors import ConfigError, DataError, NonFiniteError
from mmgraph_robust.models import GRCN, VBPR, Embeddings

ATTACKS = [
    SingleStep(),
    PGD(steps=5),
    PGD(steps=3, restarts=2, objective="bpr"),
    PGD(steps=3, objective="margin"),
    PGD(steps=3, objective="boundary"),
    Noise(),
]


def recall(model, data):
    return mr.evaluate(model, data, metrics=["recall"])["recall@20"]


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_budget_is_held_and_nothing_else_is_touched(shop, attack, scope):
    model = GRCN.from_data(shop, embedding_dim=4)
    model.train()
    model.id.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    clean = {m: x.clone() for m, x in mr.data.features(shop).items()}
    result = attack(model, shop, ThreatModel(["visual"], 0.05, scope, items=range(40)))
    delta = result.data["item"].x_visual - clean["visual"]
    if scope == "item":
        assert bool((delta.norm(dim=1) <= 0.05 * clean["visual"].norm(dim=1) * (1 + 1e-4)).all())
    else:
        assert float(delta.norm()) <= 0.05 * float(clean["visual"].norm()) * (1 + 1e-4)
    assert float(delta[:40].norm()) > 0
    assert torch.equal(delta[40:], torch.zeros_like(delta[40:]))
    assert torch.equal(result.data["item"].x_textual, clean["textual"])
    assert all(torch.equal(x, clean[m]) for m, x in mr.data.features(shop).items())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert model.training
    assert not model.id.requires_grad
    assert model.preference["visual"].requires_grad


def test_zero_budget_changes_nothing(shop, trained):
    for attack in ATTACKS:
        result = attack(trained, shop, ThreatModel(["visual"], 0.0))
        assert torch.equal(result.data["item"].x_visual, shop["item"].x_visual)
        assert result.objective == result.clean_objective


def test_planted_weakness_is_broken_by_pgd_and_not_by_noise(shop, trained):
    clean = recall(trained, shop)
    strong = recall(trained, PGD(steps=20)(trained, shop, ThreatModel(["visual"], 0.05)).data)
    noise = recall(trained, Noise()(trained, shop, ThreatModel(["visual"], 0.05)).data)
    sturdy = recall(trained, PGD(steps=20)(trained, shop, ThreatModel(["textual"], 0.05)).data)
    assert strong < 0.8 * clean
    assert noise > 0.9 * clean
    assert sturdy > 0.5 * (clean + strong)
    assert recall(trained, PGD(steps=20)(trained, shop, ThreatModel(["visual"], 5.0)).data) < 0.1 * clean


def test_a_reader_of_a_fragile_direction_is_broken(shop):
    class Secret(VBPR):
        """Amplifies one planted direction of the visual features."""

        def forward(self, features, graph):
            x = features["visual"][:, :1]
            taste = torch.randn(self.num_users, 1, generator=torch.Generator().manual_seed(0))
            return Embeddings({"visual": taste}, {"visual": 50 * x})

    x = torch.randn(80, 100, generator=torch.Generator().manual_seed(1))
    x[:, 0] *= 0.2  # one of a hundred columns, and a small one
    nobody = torch.zeros(2, 0, dtype=torch.long)
    data = mr.data.build(nobody, nobody[0], {"visual": x}, num_users=120, num_items=80)
    model = Secret.from_data(data, embedding_dim=4)
    embeddings = mr.evaluation.embed(model, data)
    best = (embeddings.user["visual"] @ embeddings.item["visual"].t()).argmax(1)
    truth = mr.data.build(
        torch.stack([torch.arange(120), best]),
        torch.full((120,), 2),
        mr.data.features(data),
        num_users=120,
        num_items=80,
    )
    # A training interaction for everybody, so that negatives can be drawn.
    edge_index = torch.cat(
        [truth["user", "interacts", "item"].edge_index, torch.stack([torch.arange(120), (best + 1) % 80])], 1
    )
    label = torch.tensor([2] * 120 + [0] * 120)
    data = mr.data.build(edge_index, label, mr.data.features(data), num_items=80)
    k = {"k": [5], "metrics": ["recall"]}
    threat = ThreatModel(["visual"], 0.05)
    assert mr.evaluate(model, data, **k)["recall@5"] == 1.0
    assert mr.evaluate(model, PGD(steps=20)(model, data, threat).data, **k)["recall@5"] < 0.3
    assert mr.evaluate(model, Noise()(model, data, threat).data, **k)["recall@5"] > 0.6


def test_more_steps_and_restarts_are_never_worse_and_seeds_repeat(shop, trained):
    threat = ThreatModel(["visual"], 0.05)
    values = [PGD(steps=n, step_size=0.3)(trained, shop, threat).objective for n in (1, 3, 9)]
    assert values == sorted(values)
    assert PGD(steps=3, restarts=3)(trained, shop, threat).objective >= PGD(steps=3)(trained, shop, threat).objective
    a, b = (PGD(steps=2, restarts=2)(trained, shop, threat, seed=1).delta["visual"] for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, Noise()(trained, shop, threat).delta["visual"])


def test_single_step_is_the_formula(shop, trained):
    pairs = mr.data.interactions(shop, "test")
    x = shop["item"].x_visual.clone().requires_grad_()
    graph = mr.Graph.from_data(shop)
    user, item = trained({"visual": x, "textual": shop["item"].x_textual}, graph).concatenated()
    margin = (user[pairs[0]] * item[pairs[1]]).sum(1) - (user @ item.t()).mean(1)[pairs[0]]
    (g,) = torch.autograd.grad(-margin.mean(), x)
    expected = x.detach() + 0.05 * x.detach().norm() * g / g.norm()
    got = SingleStep()(trained, shop, ThreatModel(["visual"], 0.05, scope="matrix")).data["item"].x_visual
    assert torch.allclose(got, expected, atol=1e-5)


def test_items_without_a_gradient_stay_under_the_single_step(shop, trained):
    result = SingleStep()(trained, shop, ThreatModel(["visual"], 0.05))
    still = result.delta["visual"].norm(dim=1) == 0
    drawn = torch.unique(mr.data.interactions(shop, "test")[1])
    assert not still[drawn].any()


def test_errors_leave_the_model_as_it_was(shop, trained):
    class Broken(PGD):
        def run(self, problem, generator, progress):
            raise RuntimeError("inside")

    trained = copy.deepcopy(trained).train()
    with pytest.raises(RuntimeError, match="inside"):
        Broken()(trained, shop, ThreatModel(["visual"]))
    assert trained.training
    assert all(p.requires_grad for p in trained.parameters())
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        PGD()(trained, shop, ThreatModel(["visul"]))
    empty = copy.copy(shop)
    empty["user", "interacts", "item"].test_mask = torch.zeros_like(shop["user", "interacts", "item"].test_mask)
    with pytest.raises(DataError, match="test split is empty"):
        PGD()(trained, empty, ThreatModel(["visual"]))
    for bad in ({"steps": 0}, {"restarts": 0}, {"step_size": 0.0}, {"objective": "boundry"}):
        with pytest.raises(ConfigError):
            PGD(**bad)


def test_an_attack_that_overruns_is_projected(shop, trained):
    class Greedy(mr.attacks.Attack):
        def run(self, problem, generator, progress):
            return {m: 100 * d for m, d in problem.random(generator).items()}

    result = Greedy()(trained, shop, ThreatModel(["visual"], 0.05))
    assert isinstance(result, mr.attacks.AttackResult)
    size = result.delta["visual"].norm(dim=1) / shop["item"].x_visual.norm(dim=1)
    assert float(size.max()) < 0.05001
    assert repr(PGD(steps=3)) == "PGD(steps=3, restarts=1, step_size=None, objective='recall')"


def test_an_attack_that_cannot_act_says_so(shop, trained):
    part = type(trained).from_data(shop, modalities=["visual"], embedding_dim=4)
    with pytest.raises(ConfigError, match="unknown modality 'textual'"):
        PGD(steps=1)(part, shop, ThreatModel(["textual"], 0.05))
    with torch.no_grad():
        part.projection["visual"].zero_()
        part.user.zero_()
    flags = PGD(steps=1)(part, shop, ThreatModel(["visual"], 0.05)).flags
    assert "visual" in flags["no_gradient"]
    assert "no_gradient" not in PGD(steps=1)(trained, shop, ThreatModel(["visual"], 0.05)).flags


@pytest.mark.parametrize("bad", [{"visual": float("nan")}, {}, {"visual": 0.0, "odour": 0.0}], ids=repr)
def test_what_is_no_change_of_the_attacked_modalities_is_refused(shop, trained, bad):
    class Wrong(mr.attacks.Attack):
        def run(self, problem, generator, progress):
            return {m: torch.full_like(problem.features["visual"], value) for m, value in bad.items()}

    threat = ThreatModel(["visual"], 0.1)
    error, text = (NonFiniteError, "not finite") if len(bad) == 1 else (ConfigError, "Wrong.run' has to return")
    with pytest.raises(error, match=text):
        Wrong()(trained, shop, threat)
    assert threat.excess(torch.full((3, 2), float("nan")), torch.ones(3, 1)) == float("inf")


def test_data_of_another_shop_are_told(trained):
    other = mr.synthetic(num_users=20, num_items=10, modalities={"visual": 12, "textual": 10})
    with pytest.raises(DataError, match="VBPR"):
        mr.attacks.PGD(1)(trained, other, ThreatModel(["visual"], 0.1))


def test_an_attacker_of_no_items_is_none():
    with pytest.raises(ConfigError, match="at least one item"):
        ThreatModel(["visual"], 0.1, items=[])


def test_few_queries_still_ask(shop, trained):
    for queries in (1, 2, 3):
        threat = ThreatModel(["visual"], 0.1, knowledge="scores", queries=queries)
        assert mr.attacks.SPSA()(trained, shop, threat).delta["visual"].any()


def test_a_step_over_the_matrix_in_l1_moves_many_items(shop, trained):
    threat = ThreatModel(["visual"], 0.3, norm="l1")
    found = mr.attacks.SingleStep("margin", normalise="matrix")(trained, shop, threat)
    assert (found.delta["visual"] != 0).any(1).sum() > 10
