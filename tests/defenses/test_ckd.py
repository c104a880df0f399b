import copy
import math

import pytest
import torch
import torch.nn.functional as F

import mmgraph_robust as mr
from mmgraph_robust.data.schema import with_features
from mmgraph_robust.defenses import CKD, TrustedItemGraph
from mmgraph_robust.defenses.ckd import counterfactual_weights
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.models import BM3, FREEDOM, GRCN, LATTICE, MMGCN, VBPR, Embeddings, LightGCN

from .conftest import same

NAMES = ("visual", "textual", "acoustic")
QUICK = {"teacher_epochs": 3, "teacher_batch_size": 16, "teacher_learning_rate": 0.05, "triples": 9}


def quick(**options):
    return CKD(**QUICK | options)


@pytest.fixture
def precise(tiny):
    """In double precision, where small effects divide well."""
    return with_features(tiny, {m: tiny["item"][f"x_{m}"].double() for m in NAMES})


def margin(embeddings, channel, triple):
    u, i, j = triple
    user, item = embeddings.user[channel], embeddings.item[channel]
    return user[u] @ item[i] - user[u] @ item[j]


def weights_of(embeddings, triples, names):
    """From the formulas, triple by triple."""

    def objective(kept):
        total = 0.0
        for t in triples:
            m = sum(
                float(margin(embeddings, c, t).detach()) for c in embeddings.channels if c in kept or c not in names
            )
            total += math.log(1 + math.exp(-m)) / len(triples)
        return total

    def effect(kept):
        return objective(()) - objective(kept)

    if len(names) == 1:
        return {names[0]: 1.0}
    c = {}
    for m in names:
        c[m] = (effect(names) - effect([o for o in names if o != m])) / effect([m])
        c[m] = min(max(c[m], 1e-8), 10.0)
    if len(names) == 2:
        v, t = names
        r = 1 - (c[t] - c[v]) / (c[t] + c[v])
        return {t: r, v: 2 - r}
    return {m: len(names) / (len(names) - 1) * (1 - c[m] / sum(c.values())) for m in names}


def reference(defense, step, names):
    """The term with its weight and without, triple by triple, and the modalities' weights."""
    generator = torch.Generator().manual_seed(0)
    sizes = (step.graph.num_users, step.graph.num_items, step.graph.num_items)
    drawn = [torch.randint(size, (defense.triples,), generator=generator).tolist() for size in sizes]
    random = list(zip(*drawn, strict=True))
    batch = list(zip(*(x.tolist() for x in step.batch.ids), strict=True))
    weights = weights_of(step.embeddings, batch, names)
    total = 0.0
    for m in names:
        teacher = Embeddings({m: defense._user[m]}, {m: defense._item[m]})
        for t in batch:
            gap = margin(teacher, m, t) - margin(step.embeddings, m, t)
            total = total + weights[m] * max(gap, 0 * gap) / len(batch)
        for t in random:
            aim = 1 / (1 + math.exp(-float(margin(teacher, m, t)) / defense.temperature))
            x = margin(step.embeddings, m, t) / defense.temperature
            entropy = -aim * F.logsigmoid(x) - (1 - aim) * F.logsigmoid(-x)
            total = total + weights[m] * defense.soft_weight * entropy / len(random)
    return defense.weight * total, total, weights


def gradients(model, value):
    found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(model.parameters(), found, strict=True)]


def fitted(kind, data, names):
    """A model that one epoch of training has brought past its random start."""
    model = kind.from_data(data, embedding_dim=4, modalities=names)
    mr.fit(model, data, max_epochs=1, batch_size=8, learning_rate=0.1, progress=False)
    return model


@pytest.mark.parametrize("kind", [VBPR, GRCN, MMGCN])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"weight": 0.3, "soft_weight": 2.0, "temperature": 0.5, "triples": 4}], ids=str
)
def test_equals_a_slow_plain_reference(tiny, precise, step_of, kind, count, options):
    names = NAMES[:count]
    model, defense = fitted(kind, tiny, names).double(), quick(**options)
    step = step_of(model, precise, defense)
    defense.start_epoch(0, step.generator)
    term, numbers = defense.loss(step)
    expected, total, weights = reference(defense, step, names)
    assert torch.allclose(term, expected, rtol=1e-9)
    for mine, theirs in zip(gradients(model, term), gradients(model, expected), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-12)
    assert any(bool(g.any()) for g in gradients(model, expected))
    assert numbers == pytest.approx(
        {"distillation": float(total.detach())} | {f"weight_{m}": w for m, w in weights.items()}
    )
    assert sum(weights.values()) == pytest.approx(count)


def test_the_formulas_defaults():
    defense = CKD()
    assert (defense.weight, defense.soft_weight, defense.temperature, defense.triples) == (0.01, 5.0, 0.1, 5000)


def test_a_modality_that_does_less_in_company_than_alone_learns_more():
    """Two say the same of the first triples, where the third is silent; it alone tells the others apart."""
    half = torch.tensor([4.0, 4.0, 0.0, 0.0])
    margins = {"visual": half, "textual": half, "acoustic": half.flip(0)}
    visual, textual, acoustic = counterfactual_weights(margins, NAMES).tolist()
    # Each of the two adds log(1 + e^-4) - log(1 + e^-8) to the other, and log 2 - log(1 + e^-4) to nothing.
    c = (math.log1p(math.exp(-4)) - math.log1p(math.exp(-8))) / (math.log(2) - math.log1p(math.exp(-4)))
    assert acoustic == pytest.approx(1.5 * (1 - 1 / (2 * c + 1)), rel=1e-4)
    assert visual == textual == pytest.approx(1.5 * (1 - c / (2 * c + 1)), rel=1e-4)
    # Where the ids say it already, the modality does as little alone as in company.
    visual, textual = counterfactual_weights({"id": half, "visual": half, "textual": half.flip(0)}, NAMES[:2]).tolist()
    assert visual == textual == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("ids", "visual", "textual", "expected"),
    [
        # A modality that does nothing, and two.
        ([0.0, 0.0], [0.0, 0.0], [2.0, 2.0], [1.0, 1.0]),
        ([1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]),
        # Both harm alone and help in company: both ratios are below the lower bound.
        ([0.0, 0.0], [3.0, -3.1], [-3.0, 3.3], [1.0, 1.0]),
        # The text mends what the image spoils, but has hardly anything to do alone: 102 is above the upper bound.
        ([5.0], [-5.0], [5.0], [2 * 10 / 10.0098, 2 * 0.0098 / 10.0098]),
    ],
)
def test_ratios_stay_within_their_bounds(ids, visual, textual, expected):
    margins = {"id": torch.tensor(ids), "visual": torch.tensor(visual), "textual": torch.tensor(textual)}
    assert counterfactual_weights(margins, ("visual", "textual")).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", [VBPR, GRCN, MMGCN, LATTICE, FREEDOM])
def test_teachers_are_what_fit_makes_of_models_of_one_modality(tiny, kind):
    model = kind.from_data(tiny, embedding_dim=4, seed=5)
    defense, graph = quick(), model.graph(tiny)
    defense.setup(model, tiny, graph)
    defense.start_epoch(0, torch.Generator())
    for m in NAMES:
        alone = kind.from_data(tiny, embedding_dim=4, seed=5, modalities=[m])
        mr.fit(alone, tiny, seed=5, max_epochs=3, batch_size=16, learning_rate=0.05, eval_every=99, progress=False)
        user, item = defense._user[m], defense._item[m]
        fresh = kind.from_data(tiny, embedding_dim=4, seed=5, modalities=[m])
        with torch.no_grad():
            expected, start = (x.eval()(x.features(tiny), graph) for x in (alone, fresh))
        assert torch.equal(user, expected.user[m])
        assert torch.equal(item, expected.item[m])
        assert not user.requires_grad
        assert not item.requires_grad
        assert not torch.equal(item, start.item[m])


def test_a_teacher_sees_nothing_of_other_modalities(tiny):
    def teach(data):
        model, defense = GRCN.from_data(data, embedding_dim=4), quick()
        defense.setup(model, data, model.graph(data))
        defense.start_epoch(0, torch.Generator())
        return {m: (defense._user[m], defense._item[m]) for m in NAMES}

    first = teach(tiny)
    second = teach(with_features(tiny, {"visual": tiny["item"].x_visual.flip(0)}))
    for m in NAMES:
        assert all(torch.equal(a, b) == (m != "visual") for a, b in zip(first[m], second[m], strict=True))


def test_arguments_that_name_modalities_keep_the_teachers_own(tiny):
    for model in (
        FREEDOM.from_data(tiny, embedding_dim=4, weights={"visual": 0.2, "textual": 0.3, "acoustic": 0.5}),
        MMGCN.from_data(tiny, embedding_dim=4, project=["visual", "textual"]),
    ):
        defense = quick()
        defense.setup(model, tiny, model.graph(tiny))
        teachers = defense._teachers
        assert {m: t.modalities for m, t in teachers.items()} == {m: (m,) for m in NAMES}
        if isinstance(model, FREEDOM):
            assert {m: t.weights for m, t in teachers.items()} == {m: {m: w} for m, w in model.weights.items()}
        else:
            assert {m: list(t.projection) for m, t in teachers.items()} == {
                "visual": ["visual"], "textual": ["textual"], "acoustic": [],
            }  # fmt: skip


def test_teachers_stay_as_they_are_while_the_model_learns(tiny, train):
    class Watched(CKD):
        """Keeps what it has before the first step."""

        def start_epoch(self, epoch, generator):
            super().start_epoch(epoch, generator)
            if epoch == 0:
                self._before = copy.deepcopy(self.state())

    defense = Watched(**QUICK, weight=1.0)
    assert not same(train(VBPR, tiny, defense), train(VBPR, tiny, None))
    assert all(same(before, defense.state()[side]) for side, before in defense._before.items())
    assert all(set(before) == set(NAMES) for before in defense._before.values())


def test_the_model_comes_near_its_teachers(shop):
    def distance(weight):
        model = VBPR.from_data(shop, embedding_dim=8, reg=0.1)
        defense = CKD(weight=weight, teacher_epochs=10, teacher_learning_rate=0.02, triples=500)
        settings = {"max_epochs": 10, "learning_rate": 0.02, "batch_size": 256, "progress": False}
        return mr.fit(model, shop, defense, **settings).records[-1]["distillation"]

    assert distance(1.0) < 0.6 * distance(0.0)


def test_without_weight_it_is_plain_training(tiny, train):
    for kind in (VBPR, GRCN):
        assert same(train(kind, tiny, quick(weight=0.0)), train(kind, tiny, None))


def test_it_resumes_with_its_teachers_to_the_same_bits(tiny, train, resumed, monkeypatch):
    trained = []
    whole = CKD._train
    monkeypatch.setattr(CKD, "_train", lambda self, teacher, m: trained.append(m) or whole(self, teacher, m))
    plain = train(GRCN, tiny, quick(weight=1.0), 3)
    assert trained == list(NAMES)
    assert same(resumed(GRCN, tiny, lambda: quick(weight=1.0), 3), plain)
    assert trained == 2 * list(NAMES)


def test_the_next_training_has_teachers_of_its_own(tiny, shop, train):
    defense = quick(weight=1.0)
    train(VBPR, shop, defense)
    assert same(train(VBPR, tiny, defense), train(VBPR, tiny, quick(weight=1.0)))


def test_bad_arguments_and_models(tiny, train):
    for key in ("weight", "soft_weight", "temperature", "teacher_learning_rate"):
        for bad in (-1.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=f" {key} >.* and finite"):
                CKD(**{key: bad})
    for bad in ({"temperature": 0.0}, {"teacher_learning_rate": 0.0}, {"triples": 0}, {"teacher_epochs": 0},
                {"teacher_batch_size": 0}):  # fmt: skip
        with pytest.raises(ConfigError, match=f" {next(iter(bad))} >"):
            CKD(**bad)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, quick())
    with pytest.raises(ConfigError, match=r"one score channel per modality; 'BM3' has \['id'\] and none for"):
        train(BM3, tiny, quick())
    with pytest.raises(NonFiniteError, match="the teacher of 'visual'.*lower teacher_learning_rate"):
        train(VBPR, tiny, quick(teacher_learning_rate=1e30))


def test_models_that_make_no_teachers_are_refused(tiny, train):
    class Fixed(VBPR):
        """Reads what it always reads."""

        def __init__(self, num_users, num_items, feature_dims, *, embedding_dim=4):
            super().__init__(num_users, num_items, {"visual": 6, "textual": 5}, embedding_dim=embedding_dim)

    class Shy(VBPR):
        """Has a channel for a modality in company only."""

        def forward(self, features, graph):
            e = super().forward(features, graph)
            return e if len(self.modalities) > 1 else e.subset(["id"])

    with pytest.raises(ConfigError, match=r"with 'visual' alone.*'Fixed' reads \['visual', 'textual'\]"):
        train(Fixed, tiny, quick())
    with pytest.raises(ConfigError, match=r"'Shy' reads \['visual'\] and has the channels \['id'\]"):
        train(Shy, tiny, quick())


def test_a_wrapped_model_is_refused(shop):
    # With one modality, its "teacher" was the model itself.
    inner = FREEDOM.from_data(shop, embedding_dim=4, knn_k=3, modalities=["visual"])
    with pytest.raises(ConfigError, match="train 'FREEDOM' with it, without the wrapper"):
        quick().setup(TrustedItemGraph(inner, shop), shop, mr.Graph.from_data(shop))
