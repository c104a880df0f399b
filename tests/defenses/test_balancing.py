import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch
from mmgraph_robust.data.schema import with_features
from mmgraph_robust.defenses import ModalityBalancing, Step
from mmgraph_robust.defenses.balancing import split_repeated
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import FREEDOM, GRCN, MMGCN, VBPR, LightGCN
from mmgraph_robust.utils import unit_rows


def step_of(model, data, batch, index=0):
    graph, features = mr.Graph.from_data(data), model.features(data)
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    return Step(model, graph, features, batch, embeddings, loss, torch.Generator().manual_seed(0), index)


@pytest.fixture
def batch():
    return Batch(torch.arange(7), torch.arange(7), torch.tensor([3, 7, 5, 6, 0, 1, 2]))


@pytest.fixture
def repeated():
    """Item 0 three times, item 1 twice."""
    return Batch(torch.arange(7), torch.tensor([0, 1, 2, 0, 1, 0, 3]), torch.tensor([3, 7, 5, 6, 0, 4, 2]))


@pytest.fixture
def precise(tiny):
    """In double precision, where no rounding decides the sign of a gradient."""
    return with_features(tiny, {m: tiny["item"][f"x_{m}"].double() for m in ("visual", "textual", "acoustic")})


def unit(vector):
    return vector / vector.norm()


def draw(batch, generator, pairs, duplicates):
    """Triples in groups, in each of them no item twice."""
    triples = list(zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True))
    order = [triples[p] for p in torch.randperm(len(triples), generator=generator).tolist()]
    if duplicates == "split":
        groups = []
        for triple in order[:pairs]:
            for group in groups:
                if all(triple[1] != other[1] for other in group):
                    group.append(triple)
                    break
            else:
                groups.append([triple])
        return groups
    group = []
    for triple in order:
        if all(triple[1] != other[1] for other in group):
            group.append(triple)
    return [group[:pairs]]


def distil(model, step, name, group, eps, steps, scope, target, normalize, noise):
    """The features of all items, number by number, after `steps` steps."""
    x = step.features[name]
    moving = list(range(len(x))) if scope == "matrix" else [i for _, i, _ in group]
    z = x.clone()
    if noise is not None:
        for k, row in enumerate(moving):
            z[row] = x[row] + eps * (2 * noise[k] - 1)
    clean = model(step.features, step.graph).item[name].detach()
    for _ in range(steps):
        z = z.detach().requires_grad_()
        e = model(step.features | {name: z}, step.graph).item[name]
        aims = clean if target == "fixed" else e.detach()
        distance = 0.0
        for _, i, j in group:
            a, b = (unit(e[i]), unit(aims[j])) if normalize else (e[i], aims[j])
            distance = distance + ((a - b) ** 2).sum()
        (g,) = torch.autograd.grad(distance, z)
        new = z.detach().clone()
        for row in moving:
            for k in range(x.size(1)):
                value = float(z[row, k]) - eps / steps * float(g[row, k].sign())
                new[row, k] = min(max(value, float(x[row, k]) - eps), float(x[row, k]) + eps)
        z = new
    return z


def reference(model, step, name="visual", *, weight=1.0, pairs=None, duplicates="first", eps=0.25, unit_="rms", steps=3,
              scope="row", target="fixed", random_start=False, normalize=False, other="sum", include_id=False,
              detach_vulnerability=False, detach_cover=False, steps_by=None):  # fmt: skip
    """The loss, triple by triple; and the mean vulnerability and cover."""
    generator = torch.Generator().manual_seed(0)
    x = step.features[name]
    if unit_ == "rms":
        eps = eps * float(x.square().sum() / x.numel()) ** 0.5
    e = model(step.features, step.graph)
    hinges, vulnerabilities, covers = [], [], []
    for group in draw(step.batch, generator, pairs, duplicates):
        rows = len(x) if scope == "matrix" else len(group)
        noise = torch.rand(rows, x.size(1), generator=generator, dtype=x.dtype) if random_start else None
        z = distil(steps_by or model, step, name, group, eps, steps, scope, target, normalize, noise)
        assert float((z - x).abs().max()) <= eps * (1 + 1e-6)
        changed = model(step.features | {name: z}, step.graph)
        dot = (lambda a, b: unit(a) @ unit(b)) if normalize else (lambda a, b: a @ b)
        for u, i, j in group:
            user = e.user[name][u]
            vulnerability = dot(user, e.item[name][i]) - dot(user, changed.item[name][i])
            margins = [
                dot(e.user[c][u], e.item[c][i]) - dot(e.user[c][u], e.item[c][j])
                for c in e.user if c != name and (include_id or c != "id")
            ]  # fmt: skip
            cover = sum(margins) / (len(margins) if other == "mean" else 1)
            vulnerability = vulnerability.detach() if detach_vulnerability else vulnerability
            cover = cover.detach() if detach_cover else cover
            hinges.append(torch.relu(vulnerability - cover))
            vulnerabilities.append(float(vulnerability.detach()))
            covers.append(float(cover.detach()))
    n = len(hinges)
    return weight * sum(hinges) / n, sum(vulnerabilities) / n, sum(covers) / n


def assert_equal(model, got, expected):
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)
    mine = torch.autograd.grad(got, list(model.parameters()), retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(expected, list(model.parameters()), retain_graph=True, allow_unused=True)
    assert any(b is not None and bool(b.any()) for b in theirs)
    for p, a, b in zip(model.parameters(), mine, theirs, strict=True):
        a, b = (torch.zeros_like(p) if g is None else g for g in (a, b))
        assert torch.allclose(a, b, rtol=0, atol=1e-5)


OPTIONS = [
    {}, {"unit": "absolute", "eps": 0.3}, {"steps": 5}, {"weight": 0.1}, {"pairs": 3}, {"scope": "matrix"},
    {"target": "moving"}, {"scope": "matrix", "target": "moving", "random_start": True}, {"random_start": True},
    {"normalize": True}, {"other": "mean"}, {"include_id": True}, {"detach_vulnerability": True},
    {"detach_cover": True},
    {"duplicates": "split"}, {"duplicates": "split", "pairs": 5, "scope": "matrix", "random_start": True},
    {"steps": 10, "eps": 1.0, "unit": "absolute", "pairs": 4, "weight": 0.01},
]  # fmt: skip


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_a_slow_plain_reference(precise, repeated, kind, options):
    """All items have to be distilled together: in a graph model each one's change reaches the others."""
    model = kind.from_data(precise, embedding_dim=4, seed=2 if kind is MMGCN else 0).double()
    defense = ModalityBalancing("visual", **options)
    step = step_of(model, precise, repeated)
    defense.setup(model, precise, step.graph)
    got, numbers = defense.loss(step)
    options = {("unit_" if k == "unit" else k): v for k, v in options.items()}
    expected, vulnerability, cover = reference(model, step, **options)
    assert_equal(model, got, expected)
    assert numbers["active_hinges"] > 0
    assert numbers["vulnerability"] == pytest.approx(vulnerability)
    assert numbers["cover"] == pytest.approx(cover)


@pytest.mark.parametrize("options", [{}, {"random_start": True}, {"normalize": True}], ids=str)
def test_steps_that_follow_the_item_alone_end_in_a_full_pass(precise, repeated, options):
    def loss(model, reach):
        defense = ModalityBalancing("visual", reach=reach, **options)
        step = step_of(model, precise, repeated)
        defense.setup(model, precise, step.graph)
        return step, defense.loss(step)[0]

    linear = VBPR.from_data(precise, embedding_dim=4).double()
    assert_equal(linear, loss(linear, "item")[1], loss(linear, "graph")[1])

    model = GRCN.from_data(precise, embedding_dim=4).double()
    step, got = loss(model, "item")
    held = model.routing(
        (model._project(step.features["visual"], "visual"), unit_rows(model.preference["visual"])),
        step.graph.interactions,
    ).detach()

    # The slow reference, with users held in its steps alone.
    def with_users_held(features, graph):
        own = model(step.features, graph)
        f = model._project(features["visual"], "visual")
        item = []
        for i in range(model.num_items):
            seen = graph.interactions.row[graph.interactions.col == i].long()
            share = (held[seen] @ f[i]).softmax(0)
            item.append(f[i] + (share[:, None] * held[seen]).sum(0))
        return type(own)(own.user, dict(own.item) | {"visual": torch.stack(item)})

    assert_equal(model, got, reference(model, step, steps_by=with_users_held, **options)[0])
    assert float((got - loss(model, "graph")[1]).abs().detach()) > 1e-6


def test_reach_is_refused_where_a_model_has_no_encoder_of_rows(precise):
    model = MMGCN.from_data(precise, embedding_dim=4).double()
    with pytest.raises(ConfigError, match="'MMGCN' has no encoder of the rows of 'visual' alone"):
        ModalityBalancing("visual", reach="item").setup(model, precise, mr.Graph.from_data(precise))


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
def test_equals_the_reference_in_single_precision(tiny, batch, kind):
    model = kind.from_data(tiny, embedding_dim=4)
    defense = ModalityBalancing("visual")
    step = step_of(model, tiny, batch)
    defense.setup(model, tiny, step.graph)
    assert_equal(model, defense.loss(step)[0], reference(model, step)[0])


def test_options_matter_where_they_should(precise, repeated):
    """In a graph model everything does; where no item reaches another, the matrix is the rows."""

    def losses(kind, options):
        model = kind.from_data(precise, embedding_dim=4).double()
        found = []
        for option in options:
            step = step_of(model, precise, repeated)
            defense = ModalityBalancing("visual", **option)
            defense.setup(model, precise, step.graph)
            found.append(float(defense.loss(step)[0].detach()))
        return found

    different = [o for o in OPTIONS if not any(k.startswith("detach") for k in o)]
    assert len({round(loss, 9) for loss in losses(GRCN, different)}) == len(different)
    plain, matrix = losses(VBPR, [{}, {"scope": "matrix"}])
    assert plain == pytest.approx(matrix, rel=1e-9)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
def test_without_a_box_the_others_cover_the_whole_margin(precise, batch, kind, normalize):
    model = kind.from_data(precise, embedding_dim=4, seed=2 if kind is MMGCN else 0).double()
    defense = ModalityBalancing("visual", eps=None, normalize=normalize)
    step = step_of(model, precise, batch)
    defense.setup(model, precise, step.graph)
    got, numbers = defense.loss(step)

    def margins(channel):
        user, item = step.embeddings.user[channel], step.embeddings.item[channel]
        dot = (lambda a, b: unit(a) @ unit(b)) if normalize else (lambda a, b: a @ b)
        triples = zip(batch.user, batch.positive, batch.negative, strict=True)
        return torch.stack([dot(user[u], item[i]) - dot(user[u], item[j]) for u, i, j in triples])

    own, others = margins("visual"), margins("textual") + margins("acoustic")
    assert_equal(model, got, torch.relu(own - others).mean())
    assert numbers["vulnerability"] == pytest.approx(float(own.mean()))
    # What long searches in wide boxes come to.
    wide = ModalityBalancing("visual", eps=10.0, steps=2000, normalize=normalize)
    if kind is VBPR:
        wide.setup(model, precise, step.graph)
        assert wide.loss(step)[1]["vulnerability"] == pytest.approx(numbers["vulnerability"], rel=0.05)


def test_several_modalities_in_turn_or_together(precise, batch):
    model = GRCN.from_data(precise, embedding_dim=4).double()
    expected = {m: reference(model, step_of(model, precise, batch), m)[0] for m in ("visual", "textual", "acoustic")}

    def loss(sensitive, index, **options):
        defense = ModalityBalancing(sensitive, **options)
        step = step_of(model, precise, batch, index)
        defense.setup(model, precise, step.graph)
        return defense.loss(step)[0]

    for index, name in enumerate(["textual", "visual", "textual"]):
        assert_equal(model, loss(["textual", "visual"], index), expected[name])
    for index, name in enumerate([*model.modalities, model.modalities[0]]):
        assert_equal(model, loss("all", 2 * index, every=2), 2 * expected[name])
    assert_equal(model, loss("all", 1, schedule="together"), sum(expected.values()) / 3)
    assert ModalityBalancing(["textual", "visual"]).describe()["sensitive"] == ("textual", "visual")


def test_one_triple_per_item_and_at_most_pairs(shop):
    model = VBPR.from_data(shop, embedding_dim=4)
    positive = torch.tensor([1, 1, 2, 3, 3, 3])
    batch = Batch(torch.arange(6), positive, torch.tensor([7, 8, 9, 10, 11, 12]))
    step = step_of(model, shop, batch)
    (chosen,) = ModalityBalancing("visual")._draw(step)
    assert sorted(positive[chosen].tolist()) == [1, 2, 3]
    assert ModalityBalancing("visual", pairs=2)._draw(step)[0].numel() == 2


def test_repeated_items_are_split_without_loss():
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    groups = split_repeated(order, torch.tensor([9, 9, 2, 9, 2, 7]))
    assert [g.tolist() for g in groups] == [[5, 0, 2], [3, 4], [1]]


def test_warm_up_leaves_training_as_it_is(shop):
    def train(defense, epochs):
        model = VBPR.from_data(shop, embedding_dim=4)
        history = mr.fit(model, shop, defense, max_epochs=epochs, batch_size=128, progress=False)
        return torch.cat([p.flatten() for p in model.parameters()]), history

    (plain, _), (warm, history) = (train(d, 2) for d in (None, ModalityBalancing("visual", warmup=2)))
    assert torch.equal(plain, warm)
    assert "vulnerability" not in history.records[1]
    _, history = train(ModalityBalancing("visual", warmup=2), 3)
    assert "vulnerability" in history.records[2]


def test_every_second_step_with_twice_the_weight(tiny, batch):
    model = VBPR.from_data(tiny, embedding_dim=4)
    once, twice = ModalityBalancing("visual"), ModalityBalancing("visual", every=2)
    for defense in (once, twice):
        defense.setup(model, tiny, mr.Graph.from_data(tiny))
    assert float(twice.loss(step_of(model, tiny, batch, index=1))[0].detach()) == 0
    a, b = (float(d.loss(step_of(model, tiny, batch, index=2))[0].detach()) for d in (once, twice))
    assert b == pytest.approx(2 * a)


def test_balancing_makes_the_sensitive_modality_matter_less_under_attack(shop):
    falls = {}
    for defense in (None, ModalityBalancing("visual")):
        model = VBPR.from_data(shop, embedding_dim=16, reg=0.1)
        mr.fit(model, shop, defense, max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
        attacked = mr.attacks.PGD(steps=10)(model, shop, mr.attacks.ThreatModel(["visual"], 0.05)).data
        a, b = (mr.evaluate(model, d, metrics=["recall"])["recall@20"] for d in (shop, attacked))
        falls[type(defense).__name__] = (a - b) / a
    assert falls["ModalityBalancing"] < 0.6 * falls["NoneType"]


def test_bad_arguments_and_models(tiny):
    graph = mr.Graph.from_data(tiny)
    for bad in ({"weight": -1.0}, {"eps": float("inf")}, {"pairs": 0}, {"steps": 0}, {"every": 0}, {"warmup": -1},
                {"unit": "metres"}, {"other": "max"}, {"scope": "rows"}, {"target": "none"}, {"duplicates": "last"},
                {"schedule": "random"}, {"reach": "far"}, {"reach": "item", "scope": "matrix"},
                {"reach": "item", "target": "moving"},
                {"detach_vulnerability": True, "detach_cover": True}):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ModalityBalancing("visual", **bad)
    for bad in ([], ["visual", "visual"]):
        with pytest.raises(ConfigError, match="sensitive"):
            ModalityBalancing(bad)
    for bad in ("visuel", ["textual", "visuel"]):
        with pytest.raises(ConfigError, match="did you mean 'visual'"):
            ModalityBalancing(bad).setup(VBPR.from_data(tiny), tiny, graph)
    for sensitive in ("visual", "all"):
        with pytest.raises(ConfigError, match="nothing to balance"):
            ModalityBalancing(sensitive).setup(LightGCN.from_data(tiny), tiny, graph)
    alone = VBPR.from_data(tiny, modalities=["visual"])
    with pytest.raises(DataError, match="another modality"):
        ModalityBalancing("visual").setup(alone, tiny, graph)
    ModalityBalancing("visual", include_id=True).setup(alone, tiny, graph)


@pytest.mark.parametrize("scope", ["row", "matrix"])
def test_a_frozen_item_graph_is_refused(tiny, scope):
    model = FREEDOM.from_data(tiny, embedding_dim=4)
    with pytest.raises(ConfigError, match="'visual' do not reach what 'FREEDOM' trains on"):
        mr.fit(model, tiny, ModalityBalancing("visual", scope=scope), max_epochs=1, progress=False)
