import dataclasses
import math

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.defenses import ListwiseAdversarialTraining
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.models import FREEDOM, GRCN, MMGCN, VBPR, LGMRec, LightGCN

from .conftest import near, same


def rivals_of(step, count):
    """The same draw as the defense's."""
    generator = torch.Generator()
    generator.set_state(step.generator.get_state())
    return torch.randperm(step.model.num_items, generator=generator)[:count].tolist()


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rivals": 3},
        {"steps": 3, "modalities": ["visual"], "relative": False},
        {"stability": 0.7, "rivals": 7},
        {"stability": 2.0, "steps": 3, "modalities": ["visual"]},
    ],
)
def test_equals_the_formula_pair_by_pair(tiny, step_of, kind, options):
    model = kind.from_data(tiny, embedding_dim=4)
    defense = ListwiseAdversarialTraining(weight=0.5, budget=0.2, **options)
    step = step_of(model, tiny, defense)
    rivals = rivals_of(step, options.get("rivals", 256))
    got, numbers = defense.loss(step)

    own = set(zip(*mr.Graph.from_data(tiny).interactions.edge_index().tolist(), strict=True))
    assert any((int(u), r) in own for u in step.batch.user for r in rivals)

    def score(embeddings, u, x):
        return sum(embeddings.user[c][u] @ embeddings.item[c][x] for c in embeddings.channels)

    def ahead_of(embeddings, u, i, others):
        ahead = [torch.exp(score(embeddings, u, r) - score(embeddings, u, i)) for r in others if (u, r) not in own]
        return torch.log(1 + sum(ahead, torch.zeros(())))

    def listed(embeddings):
        total = 0.0
        for u in step.batch.user.tolist():
            free = [r for r in rivals if (u, r) not in own]
            first = max(free, key=lambda r: float(score(step.embeddings, u, r).detach()))
            total = total + ahead_of(embeddings, u, first, [r for r in free if r != first])
        return total / len(step.batch)

    def loss_on(features):
        embeddings = model(features, step.graph)
        pairs = zip(step.batch.user.tolist(), step.batch.positive.tolist(), strict=True)
        total = sum(ahead_of(embeddings, u, i, rivals) for u, i in pairs) / len(step.batch)
        if stability:
            total = total + stability * listed(embeddings)
        return total + model.regularization(embeddings, step.batch)

    stability = options.get("stability", 0.0)
    clean = model.features(tiny)
    names = options.get("modalities", list(clean))
    steps = options.get("steps", 1)
    radius = {m: 0.2 * (clean[m].norm(dim=1, keepdim=True) if options.get("relative", True) else 1.0) for m in names}
    delta = {m: torch.zeros_like(clean[m]) for m in names}
    for _ in range(steps):
        moved = {m: (clean[m] + delta[m]).requires_grad_() for m in names}
        found = torch.autograd.grad(loss_on(clean | moved), list(moved.values()))
        for m, g in zip(names, found, strict=True):
            size = 1.0 if steps == 1 else 2.5 / steps
            d = delta[m] + size * radius[m] * g / g.norm(dim=1, keepdim=True).clamp(min=1e-30)
            delta[m] = d * (radius[m] / d.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    adversarial = loss_on(clean | {m: (clean[m] + d).detach() for m, d in delta.items()})
    if stability:
        adversarial = adversarial - stability * listed(step.embeddings)
    assert got.item() == pytest.approx(0.5 * float(adversarial.detach()), abs=1e-5)
    assert numbers["adversarial_loss"] == pytest.approx(float(adversarial.detach()), abs=1e-5)
    mine, theirs = (
        torch.autograd.grad(x, list(model.parameters()), allow_unused=True, retain_graph=True)
        for x in (got, 0.5 * adversarial)
    )
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5)


def test_who_has_every_rival_is_ahead_of_nobody(tiny, step_of):
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    defense = ListwiseAdversarialTraining()
    step = step_of(model, tiny, defense)
    everything = torch.cartesian_prod(torch.arange(tiny["user"].num_nodes), torch.arange(tiny["item"].num_nodes)).t()
    defense._interactions = mr.sparse.Adjacency.from_edge_index(everything)
    known = defense._known(step.batch.user, torch.tensor([4, 1]))
    assert known.shape == (7, 2)
    assert bool(known.all())
    embeddings, features = step.embeddings, step.features
    assert float(defense._objective(step)(embeddings, features).detach()) == 0.0


def test_an_untrained_model_of_zeros_knows_nothing(tiny, step_of):
    """log(1 + number of rivals that are not the user's own), whatever the items."""
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    defense = ListwiseAdversarialTraining(rivals=1000)
    step = step_of(model, tiny, defense)
    degree = mr.Graph.from_data(tiny).interactions.degree()
    expected = sum(math.log(1 + model.num_items - int(degree[u])) for u in step.batch.user) / len(step.batch)
    assert float(defense._objective(step)(step.embeddings, step.features).detach()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [GRCN, MMGCN, LGMRec])
def test_where_nothing_is_perturbed_lists_lose_nothing(tiny, train, kind):
    """LGMRec draws edges and units anew in every step: for both passes alike."""
    plain, steady = (ListwiseAdversarialTraining(budget=0.0, stability=s) for s in (0.0, 3.0))
    trained, other = train(kind, tiny, plain), train(kind, tiny, steady)
    assert all(torch.allclose(p, other[name], atol=1e-4) for name, p in trained.items())
    steady = ListwiseAdversarialTraining(budget=0.2, stability=3.0)
    assert not near(trained, train(kind, tiny, steady))


def test_a_user_twice_in_a_batch_counts_twice(tiny, step_of):
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    losses = []
    for users in ([0], [1], [0, 0, 1]):
        defense = ListwiseAdversarialTraining(stability=1.0)
        step = step_of(model, tiny, defense)
        user = torch.tensor(users)
        step = dataclasses.replace(step, batch=Batch(user, user, user))
        losses.append(float(defense._objective(step)(step.embeddings, step.features).detach()))
    assert losses[2] == pytest.approx((2 * losses[0] + losses[1]) / 3, abs=1e-6)


@pytest.mark.parametrize("rivals", [1, 4])
def test_who_has_no_list_has_nothing_to_lose(tiny, step_of, rivals):
    """With one rival at most there is nobody who could pass it, with none nobody to be passed."""
    model = VBPR.from_data(tiny, embedding_dim=4, reg=0.0)
    plain, steady = (ListwiseAdversarialTraining(rivals=rivals, stability=s) for s in (0.0, 1.0))
    everything = torch.cartesian_prod(torch.arange(tiny["user"].num_nodes), torch.arange(tiny["item"].num_nodes)).t()
    losses = []
    for defense in (plain, steady):
        step = step_of(model, tiny, defense)
        if rivals > 1:
            defense._interactions = mr.sparse.Adjacency.from_edge_index(everything)
        loss, _ = defense.loss(step)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        assert all(g is None or torch.isfinite(g).all() for g in gradients)
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_stability_holds_what_nobody_labelled(shop):
    """Of the recommendations that are no attacked pairs more stay than if the weight went to known pairs, at the clean
    quality of that."""
    graph = mr.Graph.from_data(shop)
    users = torch.arange(graph.num_users)
    threat = mr.attacks.ThreatModel(["visual", "textual"], 0.2)
    store = shop["user", "interacts", "item"]
    attacked = set(zip(*store.edge_index[:, store.test_mask].tolist(), strict=True))

    def kept(weight, stability):
        model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
        defense = ListwiseAdversarialTraining(weight=weight, rivals=30, stability=stability)
        mr.fit(model, shop, defense, max_epochs=40, batch_size=256, learning_rate=0.01, progress=False)
        lists = []
        for data in (shop, mr.attacks.PGD(steps=10)(model, shop, threat).data):
            with torch.no_grad():
                embeddings = model(model.features(data), graph)
            found = mr.metrics.rank_items(*embeddings.concatenated(), users, graph.interactions, 10).tolist()
            lists.append({(u, i) for u, row in enumerate(found) for i in row} - attacked)
        return len(lists[0] & lists[1]) / len(lists[0]), mr.evaluate(model, shop)["recall@20"]

    (steady, quality), (plain, reference) = kept(0.3, 2.0), kept(0.9, 0.0)
    assert 1 - steady < 0.9 * (1 - plain)
    assert quality > 0.95 * reference


def test_with_weight_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, ListwiseAdversarialTraining(weight=0.0)), train(GRCN, tiny, None))


@pytest.mark.parametrize("stability", [0.0, 1.0])
def test_it_resumes_to_the_same_bits(tiny, train, resumed, stability):
    def make(rivals=4):
        return ListwiseAdversarialTraining(rivals=rivals, stability=stability)

    assert same(resumed(GRCN, tiny, make, 3), train(GRCN, tiny, make(), 3))
    assert not near(train(GRCN, tiny, make(), 3), train(GRCN, tiny, make(5), 3))


def test_it_helps_under_attack(shop, trained):
    model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
    defense = ListwiseAdversarialTraining(budget=0.1)
    mr.fit(model, shop, defense, max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
    threat = mr.attacks.ThreatModel(["visual", "textual"], 0.05)

    def fall(m):
        attacked = mr.attacks.PGD(steps=10)(m, shop, threat).data
        a, b = (mr.evaluate(m, d, metrics=["ndcg"])["ndcg@20"] for d in (shop, attacked))
        return (a - b) / a

    assert fall(model) < 0.8 * fall(trained)


def test_bad_arguments_and_models(tiny):
    with pytest.raises(ConfigError, match="rivals >= 1"):
        ListwiseAdversarialTraining(rivals=0)
    with pytest.raises(ConfigError, match="stability"):
        ListwiseAdversarialTraining(stability=-1.0)
    with pytest.raises(BudgetError):
        ListwiseAdversarialTraining(budget=float("inf"))
    with pytest.raises(ConfigError, match="nothing to defend"):
        ListwiseAdversarialTraining().setup(LightGCN.from_data(tiny), tiny, mr.Graph.from_data(tiny))
    model = FREEDOM.from_data(tiny, embedding_dim=4, knn_k=3)
    with pytest.raises(ConfigError, match="do not reach"):
        mr.fit(model, tiny, ListwiseAdversarialTraining(), max_epochs=1, progress=False)
