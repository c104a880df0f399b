import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, ThreatModel
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.evaluation import Certificate, Evaluator, certificates, certified_recall, certify, embed
from mmgraph_robust.models import FREEDOM, GRCN, VBPR, Embeddings, LightGCN

K = 10
BUDGETS = [(norm, scope) for norm in ("l2", "linf", "l1") for scope in ("item", "matrix")]


def recall(model, data):
    return mr.evaluate(model, data, k=[K], metrics=["recall"])[f"recall@{K}"]


@pytest.mark.parametrize(("norm", "scope"), BUDGETS)
def test_at_no_budget_it_is_the_clean_recall_and_it_falls(shop, trained, norm, scope):
    threat = ThreatModel(["visual", "textual"], 0.01, scope, norm)
    certificate = certify(trained, shop, threat, k=K)
    assert isinstance(certificate, Certificate)
    assert certificate.clean == pytest.approx(recall(trained, shop), abs=1e-12)
    assert certificate.recall(0.0) == certificate.clean
    values = [certificate.recall(b) for b in (0.0, 0.001, 0.01, 0.1, 1.0)]
    assert values == sorted(values, reverse=True)
    assert certificate.certified == values[2]
    assert certificate.recall(100.0) == 0.0
    assert certificate.method == "linear"
    assert certificate.describe()["certified_recall"] == values[2]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    budget=st.sampled_from([0.002, 0.01, 0.05, 0.3]),
    kind=st.sampled_from(BUDGETS),
    names=st.sampled_from([["visual"], ["textual", "visual"]]),
    items=st.sampled_from([None, range(0, 80, 3)]),
    scale=st.sampled_from([None, {"visual": 0.2}, {"textual": 4.0}]),
)
def test_no_attack_contradicts_it(shop, seed, budget, kind, names, items, scale):
    model = VBPR.from_data(shop, embedding_dim=6, feature_scale=scale, seed=seed)
    with torch.no_grad():
        model.item_id *= 3
    threat = ThreatModel(names, budget, kind[1], kind[0], items=items)
    certificate = certify(model, shop, threat, k=K)
    evaluator = Evaluator(shop, "test", [K])
    before = evaluator.lists(embed(model, shop))
    for objective in ("boundary", "margin"):
        attacked = PGD(steps=5, objective=objective)(model, shop, threat).data
        embeddings = embed(model, attacked)
        assert evaluator(embeddings)[f"recall@{K}"] >= certificate.certified
        after = evaluator.lists(embeddings)
        # Pair by pair, and list by list.
        kept = evaluator.found(after)
        assert bool(kept[certificate.hit & (certificate.largest > budget)].all())
        same = (before.sort(1).values == after.sort(1).values).all(1)
        assert bool(same[certificate.largest_list > budget].all())


def worst_case(model, data, threat, user, item, scale):
    """The attack that the bound describes, on one pair and modality, at `scale` times the pair's budget."""
    (name,) = threat.modalities
    x = data["item"][f"x_{name}"].double()
    embeddings = embed(model, data).detach()
    u, i = (z.double() for z in embeddings.concatenated())
    w = model.projection[name].detach().double() @ embeddings.user[name][user].double()
    largest = torch.nn.functional.one_hot(w.abs().argmax(), w.numel()) * w.sign()
    direction = {"linf": w.sign(), "l2": w / w.norm(), "l1": largest}[threat.norm]
    size = threat.radii({name: x.float()})[name].double().flatten().expand(80) * scale
    if threat.scope == "item" or threat.norm == "linf":
        move = size.clone()
        move[item] = -size[item]
        return {name: (x + move[:, None] * direction).float()}
    score = i @ u[user]
    score[mr.data.interactions(data, "train")[1][mr.data.interactions(data, "train")[0] == user]] = -math.inf
    gap = score[item] - score
    gap[item] = math.inf
    near, rivals = gap.clamp(min=0).topk(K, largest=False)
    pulls = torch.linspace(0, float(near.max()), 4001, dtype=torch.double)
    moves = torch.cat([pulls[:, None], (near - pulls[:, None]).clamp(min=0)], 1)
    order = {"l2": 2.0, "l1": 1.0}[threat.norm]
    pull = pulls[moves.norm(order, dim=1).argmin()]
    move = torch.zeros(80, dtype=torch.double)
    move[item] = -pull
    move[rivals] = (near - pull).clamp(min=0)
    return {name: (x + move[:, None] * size[0] / move.norm(order) * direction).float()}


@pytest.mark.parametrize(("norm", "scope"), BUDGETS)
def test_it_is_attained_for_every_single_pair(shop, norm, scope):
    model = VBPR.from_data(shop, embedding_dim=6, seed=3)
    certificate = certify(model, shop, ThreatModel(["visual"], 0.01, scope, norm), k=K)
    evaluator = Evaluator(shop, "test", [K])
    # Where gaps are wide beside the allowance for rounding.
    wide = certificate.largest > certificate.largest[certificate.hit].median()
    places = wide.nonzero().flatten()[:25].tolist()
    assert len(places) > 5
    for place in places:
        user, item = certificate.pairs[:, place].tolist()
        threat = ThreatModel(["visual"], float(certificate.largest[place]), scope, norm)
        for scale, stays in ((0.999, True), (1.001, False)):
            changed = worst_case(model, shop, threat, user, item, scale)
            lists = evaluator.lists(embed(model, mr.data.with_features(shop, changed)))
            assert bool(evaluator.found(lists)[place]) is stays


def test_an_attacker_of_a_few_items_moves_few(shop, trained):
    all_items = certify(trained, shop, ThreatModel(["visual"], 0.05), k=K)
    few = certify(trained, shop, ThreatModel(["visual"], 0.05, items=[0, 1]), k=K)
    assert few.certified > all_items.certified
    assert bool((few.largest >= all_items.largest).all())
    assert bool(torch.isinf(few.largest[few.hit]).any())
    # The median of all hits: of those that can fall alone it would be finite.
    assert torch.isinf(few.largest[few.hit]).double().mean() > 0.5
    assert few.describe()["median_largest_budget_of_hits"] is None
    expected = float(all_items.largest[all_items.hit].median())
    assert all_items.describe()["median_largest_budget_of_hits"] == expected
    nothing = certify(trained, shop, ThreatModel(["visual"], 0.0), k=K)
    assert nothing.describe()["unchanged_lists"] == 1.0
    wide = certify(trained, shop, ThreatModel(["visual"], 0.05), k=79)
    assert bool(torch.isinf(wide.largest[wide.hit]).any())


def test_immune_models_and_those_without_a_bound(shop):
    immune = certify(LightGCN.from_data(shop, embedding_dim=4), shop, ThreatModel(["visual"], 5.0))
    assert immune.method == "no path"
    assert immune.certified == immune.clean
    assert immune.describe()["median_largest_budget_of_hits"] is None
    for kind in (GRCN, FREEDOM):
        with pytest.raises(ConfigError, match="no certificate can be derived.*smoothed_recall"):
            certify(kind.from_data(shop, embedding_dim=4), shop, ThreatModel(["visual"], 0.05))
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        certify(VBPR.from_data(shop, embedding_dim=4), shop, ThreatModel(["visul"], 0.05))
    with pytest.raises(BudgetError, match=">= 0"):
        immune.recall(-1.0)


class Curved(VBPR):
    """An item's vector is a curved function of its own features."""

    def forward(self, features, graph):
        user = dict.fromkeys(self.modalities, self.user[:, : self.embedding_dim])
        return Embeddings(user, {m: torch.tanh(features[m] @ self.projection[m]) for m in self.modalities})

    def linear_projection(self, modality):
        return None

    def row_lipschitz(self, modality):
        return float(torch.linalg.matrix_norm(self.projection[modality].detach(), 2))


@pytest.mark.parametrize(("norm", "scope"), BUDGETS)
def test_a_lipschitz_bound_holds_for_curved_models(shop, norm, scope):
    for seed in range(3):
        model = Curved.from_data(shop, embedding_dim=6, seed=seed)
        threat = ThreatModel(["visual"], 0.02, scope, norm)
        certificate = certify(model, shop, threat, k=K)
        assert certificate.method == "lipschitz"
        attacked = PGD(steps=10)(model, shop, threat).data
        assert recall(model, attacked) >= certificate.certified
        assert certificate.recall(1e-6) > 0


def test_wrong_declarations_are_found_out(shop):
    class Boast(Curved):
        def row_lipschitz(self, modality):
            return 1e-3

    class Propagating(GRCN):
        def linear_projection(self, modality):
            return torch.eye(self.feature_dims[modality])

    class Other(VBPR):
        def linear_projection(self, modality):
            return -self.projection[modality]

    for kind in (Boast, Propagating, Other):
        with pytest.raises(ConfigError, match="does not do what it declares"):
            certify(kind.from_data(shop, embedding_dim=4), shop, ThreatModel(["visual"], 0.05))


def test_recall_of_what_stays():
    user = torch.tensor([0, 0, 2, 2])
    hit = torch.tensor([True, False, True, True])
    largest = torch.tensor([0.1, 0.0, 0.3, 0.0])
    assert [certified_recall(user, hit, largest, b) for b in (0.0, 0.05, 0.1, 0.3)] == [0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_cost_of_falling_behind_is_the_least(norm):
    gap = torch.rand(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    gap[0] = 0
    gap[1, 0] = math.inf
    pull = torch.linspace(0, 1, 20_001, dtype=torch.double)[:, None, None]
    lift = (gap - pull).clamp(min=0)
    grid = pull[..., 0] + lift.sum(2) if norm == "l1" else (pull[..., 0].square() + lift.square().sum(2)).sqrt()
    assert torch.allclose(certificates._cost(gap, norm), grid.amin(0), atol=1e-4)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_no_change_of_unit_size_moves_a_score_further(shop, norm):
    model = VBPR.from_data(shop, embedding_dim=6)
    user = torch.randn(5, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    reach = certificates._reach(model, "visual", norm, user)
    order = {"l1": 1.0, "l2": 2.0, "linf": math.inf}[norm]
    change = torch.randn(4000, 12, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    weight = model.projection["visual"].detach().double()
    # Among them the directions that reach it: along, by sign, and one entry alone.
    pulled = user @ weight.t()
    change = torch.cat([change, pulled, pulled.sign(), torch.eye(12, dtype=torch.double)])
    moved = (change / change.norm(order, dim=1, keepdim=True)) @ pulled.t()
    assert torch.allclose(moved.abs().amax(0), reach)
