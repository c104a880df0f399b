import pytest
import torch
from references import bpr, neighbours, unit

from mmgraph_robust.data import Batch
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import MMSSL
from mmgraph_robust.testing import check_model
from mmgraph_robust.utils import child_generator

BATCH = Batch(torch.tensor([1, 2, 1, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def scores(embeddings):
    user, item = embeddings.concatenated()
    return user @ item.t()


@pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(MMSSL.from_data(shop, modalities=modalities, embedding_dim=4), shop)


def gather(x, near):
    return torch.stack([sum((x[j] for j in n), torch.zeros(x.size(1))) / max(len(n), 1) ** 0.5 for n in near])


def reference(model, data, attended, masks=None):
    """The final users, the items by channel, all features, and the neighbours of users.

    `attended` is what becomes of the ids of the neighbours, one matrix for each modality, before they are normalised.
    """
    users, items = neighbours(data)
    features, content = [], {}
    for m in model.modalities:
        linear = model.projection[m]
        x = torch.stack([linear.weight @ row + linear.bias for row in data["item"][f"x_{m}"]])
        user = gather(x if masks is None else x * masks[m], users)
        item = gather(user, items)
        features += [user, item]
        content[m] = [model.feature_rate * torch.stack([unit(row) for row in f]) for f in (user, item)]
    around = gather(model.item_id, users), gather(model.user_id, items)
    user, item = (
        own + model.id_rate * torch.stack([unit(row) for row in attended(x)])
        for own, x in zip((model.user_id, model.item_id), around, strict=True)
    )
    all_users, all_items = [user], [item]
    for _ in range(model.num_layers):
        all_users.append(gather(all_items[-1], users))
        all_items.append(gather(all_users[-1], items))
    final = sum(all_users) / len(all_users) + sum(user for user, _ in content.values())
    parts = {"id": sum(all_items) / len(all_items)} | {m: item for m, (_, item) in content.items()}
    return final, parts, features, around[0]


def reference_loss(model, user, item, features, neighbour):
    total = bpr(user @ item.t(), BATCH)
    rows = (user[BATCH.user], item[BATCH.positive], item[BATCH.negative])
    total = total + model.reg * sum((r**2).sum() for r in rows) / (2 * len(BATCH))
    total = total + model.feature_reg * sum((f**2).sum() for f in features) / (2 * 8)
    distinct = [1, 2, 4]
    for b in distinct:

        def weight(x, b=b):
            return torch.exp(unit(neighbour[b]) @ unit(x) / model.temperature)

        below = sum(weight(user[a]) for a in distinct) + sum(weight(neighbour[a]) for a in distinct if a != b)
        share = model.contrast * len(model.modalities) / len(distinct)
        total = total - share * torch.log(weight(user[b]) / below)
    return total


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"], ["visual", "textual", "acoustic"]])
def test_equals_reference(tiny, modalities):
    model = MMSSL.from_data(tiny, modalities=modalities, embedding_dim=4, contrast=0.4, feature_reg=0.3, reg=0.2)
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    user, parts, content, neighbour = reference(model, tiny, lambda x: x @ model.attended.weight.t())
    item = sum(parts.values())
    assert torch.allclose(scores(embeddings), user @ item.t(), atol=1e-5)
    assert set(embeddings.channels) == set(parts)
    for name, part in parts.items():
        assert torch.allclose(embeddings.user[name] @ embeddings.item[name].t(), user @ part.t(), atol=1e-5)
    expected = reference_loss(model, user, item, content, neighbour)
    assert torch.allclose(model.loss(embeddings, BATCH, features), expected, atol=1e-5)


def test_attention_over_one_graph_leaves_only_its_last_map(tiny):
    """The paper's multi-head attention over modalities, each with the graph that the generator starts from."""
    model = MMSSL.from_data(tiny, embedding_dim=4, num_layers=1)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 4, 4, generator=generator)
    last = torch.randn(2 * 4, 4, generator=generator)

    def attended(x):
        heads = []
        for head in (slice(0, 2), slice(2, 4)):
            q, k = (x @ query)[:, head], (x @ key)[:, head]
            per_modality = []
            for _ in model.modalities:
                logits = torch.stack([(q * k).sum(1) / 2**0.5 for _ in model.modalities])
                shares = torch.softmax(logits, 0)
                per_modality.append(sum(s[:, None] * x for s in shares))
            heads.append(sum(per_modality) / len(per_modality))
        return torch.cat(heads, 1) @ last

    with torch.no_grad():
        model.attended.weight.copy_((last[:4] + last[4:]).t())
    user, parts, _, _ = reference(model, tiny, attended)
    embeddings = model(model.features(tiny), model.graph(tiny))
    assert torch.allclose(scores(embeddings), user @ sum(parts.values()).t(), atol=1e-5)


def test_training_steps_draw_dropout_from_their_seed(tiny):
    model = MMSSL.from_data(tiny, embedding_dim=4, dropout=0.4)
    graph, features = model.graph(tiny), model.features(tiny)
    generator = torch.Generator().manual_seed(0)
    first, second = (model.training_graph(graph, None, features, step, generator) for step in range(2))
    masks = {
        m: (torch.rand(8, 4, generator=child_generator(first.seed, f"dropout_{m}")) >= 0.4) / 0.6
        for m in model.modalities
    }
    user, parts, content, neighbour = reference(model, tiny, lambda x: x @ model.attended.weight.t(), masks)
    item = sum(parts.values())
    one, two, quiet = (model(features, g) for g in (first, second, graph))
    assert torch.allclose(scores(one), user @ item.t(), atol=1e-5)
    expected = reference_loss(model, user, item, content, neighbour)
    assert torch.allclose(model.loss(one, BATCH, features), expected, atol=1e-5)
    assert not torch.allclose(scores(one), scores(two), atol=1e-3)
    assert not torch.allclose(scores(one), scores(quiet), atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [{"embedding_dim": 0}, {"num_layers": -1}, {"id_rate": 0.0}, {"feature_rate": 0.0}, {"dropout": 1.0},
     {"temperature": 0.0}, {"contrast": -1.0}, {"feature_reg": -1.0}, {"reg": -1.0}],
)  # fmt: skip
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=f"'MMSSL' expects {next(iter(bad))} "):
        MMSSL.from_data(tiny, **bad)


def test_needs_a_modality(tiny):
    with pytest.raises(DataError, match="modality"):
        MMSSL.from_data(tiny, modalities=[])
