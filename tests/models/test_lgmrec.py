import pytest
import torch
from references import bpr, neighbours, propagate, unit

from mmgraph_robust.data import Batch
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import LGMRec
from mmgraph_robust.testing import check_model
from mmgraph_robust.utils import child_generator

BATCH = Batch(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def scores(embeddings):
    user, item = embeddings.concatenated()
    return user @ item.t()


@pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(LGMRec.from_data(shop, modalities=modalities, embedding_dim=4, num_hyperedges=3), shop)


def hop(x, near):
    """The symmetric normalisation's product."""
    rows = []
    for own in near:
        rows.append(sum((x[j] / (len(own) * len(near[j])) ** 0.5 for j in own), torch.zeros(x.size(1))))
    return torch.stack(rows)


def reference(model, data, *, hyper_layers, noise=None):
    """Final vectors of all nodes, the parts of each channel, and the vectors of the hyperedges per modality."""
    users, items = neighbours(data)
    num_users = len(users)
    near = [[i + num_users for i in n] for n in users] + items
    ids = torch.cat(propagate(model, data))
    local, hyper = [], []
    for m in model.modalities:
        x = data["item"][f"x_{m}"] @ model.projection[m]
        mean = [sum((x[i] / len(n) for i in n), torch.zeros(x.size(1))) for n in users]
        x = torch.cat([torch.stack(mean), x])
        for _ in range(2):
            x = hop(x, near)
        local.append(torch.stack([unit(row) for row in x]))
        ties = data["item"][f"x_{m}"] @ model.hyperedge[m]
        of_users = torch.stack([sum((ties[i] for i in n), torch.zeros(ties.size(1))) for n in users])
        ties = torch.cat([of_users, ties])
        gumbel, mask = noise[m] if noise else (0.0, 1.0)
        ties = torch.softmax((ties + gumbel) / model.temperature, 1) * mask
        user, item = None, ids[num_users:]
        for _ in range(hyper_layers):
            edges = [sum(ties[num_users + i, e] * item[i] for i in range(len(items))) for e in range(ties.size(1))]
            user = torch.stack([sum(t * e for t, e in zip(row, edges, strict=True)) for row in ties[:num_users]])
            item = torch.stack([sum(t * e for t, e in zip(row, edges, strict=True)) for row in ties[num_users:]])
        hyper.append(torch.cat([user, item]))
    total = sum(hyper)
    parts = {"id": ids}
    for m, near_by, far in zip(model.modalities, local, hyper, strict=True):
        # Dropout may leave a node no tie at all.
        far = torch.stack([h / t.norm() if bool(t.any()) else h for h, t in zip(far, total, strict=True)])
        parts[m] = near_by + model.alpha * far
    return sum(parts.values()), parts, hyper


def reference_loss(model, final, hyper):
    user, item = final[:10], final[10:]
    total = bpr(user @ item.t(), BATCH)
    rows = (user[BATCH.user], item[BATCH.positive], item[BATCH.negative])
    total = total + model.reg * sum(r.square().sum().sqrt() for r in rows) / len(BATCH)
    for m in range(len(hyper)):
        for n in range(m + 1, len(hyper)):
            for nodes, ids in ((range(10), BATCH.user), (range(10, 18), BATCH.positive + 10)):
                for b in ids.tolist():
                    cosine = {c: unit(hyper[m][b]) @ unit(hyper[n][c]) / model.temperature for c in nodes}
                    total = total - model.contrast * (cosine[b] - torch.stack(list(cosine.values())).logsumexp(0))
    return total


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"], ["visual", "textual", "acoustic"]])
@pytest.mark.parametrize("hyper_layers", [1, 2])
def test_equals_reference(tiny, modalities, hyper_layers):
    model = LGMRec.from_data(
        tiny, modalities=modalities, embedding_dim=4, num_hyperedges=3, num_hyper_layers=hyper_layers, reg=0.3,
        contrast=0.2,
    )  # fmt: skip
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    final, parts, hyper = reference(model, tiny, hyper_layers=hyper_layers)
    assert torch.allclose(scores(embeddings), final[:10] @ final[10:].t(), atol=1e-5)
    for name, part in parts.items():
        expected = final[:10] @ part[10:].t()
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), expected, atol=1e-5)
    expected = reference_loss(model, final, hyper)
    assert torch.allclose(model.loss(embeddings, BATCH, features), expected, atol=1e-5)


def test_training_steps_draw_noise_from_their_seed(tiny):
    # At low temperatures, dropout may leave ties so weak that the bounds of normalisations show.
    model = LGMRec.from_data(tiny, embedding_dim=4, num_hyperedges=3, keep=0.6, contrast=0.2, temperature=2.0)
    graph, features = model.graph(tiny), model.features(tiny)
    generator = torch.Generator().manual_seed(0)
    first, second = (model.training_graph(graph, None, features, step, generator) for step in range(2))
    assert first.seed != second.seed
    noise = {}
    for m in model.modalities:
        gumbel = -torch.empty(18, 3).exponential_(generator=child_generator(first.seed, f"gumbel_{m}")).log()
        kept = torch.rand(18, 3, generator=child_generator(first.seed, f"dropout_{m}")) >= 0.4
        noise[m] = gumbel, kept / 0.6
    final, _, hyper = reference(model, tiny, hyper_layers=1, noise=noise)
    one, two, quiet = (model(features, g) for g in (first, second, graph))
    assert torch.allclose(scores(one), final[:10] @ final[10:].t(), atol=1e-5)
    assert torch.allclose(model.loss(one, BATCH, features), reference_loss(model, final, hyper), atol=1e-5)
    assert not torch.allclose(scores(one), scores(two), atol=1e-3)
    assert not torch.allclose(scores(one), scores(quiet), atol=1e-3)


def test_a_node_without_a_tie_left_stays_finite(tiny):
    """Dropout may cut a node off from every hyperedge; the others' vectors then are zero as well."""
    model = LGMRec.from_data(tiny, embedding_dim=4, num_hyperedges=1, keep=0.05)
    graph, features = model.graph(tiny), model.features(tiny)
    graph = model.training_graph(graph, None, features, 0, torch.Generator().manual_seed(0))
    embeddings = model(features, graph).check_finite()
    assert any(bool((x.norm(dim=1) == 0).any()) for x in embeddings.extra.values())
    model.loss(embeddings, BATCH, features).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "bad",
    [{"embedding_dim": 0}, {"num_layers": -1}, {"num_modality_layers": -1}, {"num_hyper_layers": 0},
     {"num_hyperedges": 0}, {"keep": 0.0}, {"keep": 1.5}, {"alpha": -1.0}, {"temperature": 0.0}, {"contrast": -1.0},
     {"reg": -1.0}],
)  # fmt: skip
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=f"'LGMRec' expects {next(iter(bad))} "):
        LGMRec.from_data(tiny, **bad)


def test_needs_a_modality(tiny):
    with pytest.raises(DataError, match="modality"):
        LGMRec.from_data(tiny, modalities=[])
