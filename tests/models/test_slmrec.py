from types import SimpleNamespace

import pytest
import torch
from references import propagate, unit

from mmgraph_robust.data import Batch
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import SLMRec
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def scores(embeddings):
    user, item = embeddings.concatenated()
    return user @ item.t()


@pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
def test_keeps_the_contract(shop, modalities):
    check_model(SLMRec.from_data(shop, modalities=modalities, embedding_dim=4), shop)


def reference(model, data):
    """Fused users and items, and the items of every branch."""
    content = [model.item_id]
    for m in model.modalities:
        linear = model.projection[m]
        content.append(torch.stack([linear.weight @ unit(x) + linear.bias for x in data["item"][f"x_{m}"]]))
    branches = [
        propagate(SimpleNamespace(user_id=model.user_id, item_id=x, propagation=model.propagation), data)
        for x in content
    ]
    user = torch.cat([b[0] for b in branches], 1) @ model.fuse_user.weight.t() + model.fuse_user.bias
    item = torch.cat([b[1] for b in branches], 1) @ model.fuse_item.weight.t() + model.fuse_item.bias
    return user, item, [b[1] for b in branches]


def cross_entropy(left, right, temperature):
    total = 0.0
    for b in range(len(left)):
        total = total - torch.log_softmax(torch.stack([left[b] @ r for r in right]) / temperature, 0)[b]
    return total / len(left)


@pytest.mark.parametrize("modalities", [["visual"], ["visual", "textual"], ["visual", "acoustic", "textual"]])
def test_equals_reference(tiny, modalities):
    model = SLMRec.from_data(tiny, modalities=modalities, embedding_dim=4, num_layers=2, alignment=0.7)
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    user, item, branch = reference(model, tiny)
    assert torch.allclose(scores(embeddings), user @ item.t(), atol=1e-5)

    u = torch.stack([unit(x) for x in user[BATCH.user]])
    i = torch.stack([unit(x) for x in item[BATCH.positive]])
    branch = [x[BATCH.positive] for x in branch]
    maps = model.align
    fine = maps["shared_0"](branch[0])
    expected = cross_entropy(fine, branch[1] @ maps["fine_0"].weight.t(), 0.1)
    if len(modalities) > 1:
        middle = maps["shared_1"](fine)
        if len(modalities) == 3:
            expected = expected + cross_entropy(middle, branch[2] @ maps["fine_1"].weight.t(), 0.1)
        coarse = maps["shared_coarse"](middle)
        assert coarse.size(1) == 2
        expected = expected + cross_entropy(coarse, branch[-1] @ maps["coarse"].weight.t(), 0.1)
    expected = cross_entropy(u, i, 0.2) + 0.7 * expected
    assert torch.allclose(model.loss(embeddings, BATCH, features), expected, atol=1e-5)


def test_channels_are_blocks_of_the_item_map(tiny):
    model = SLMRec.from_data(tiny, embedding_dim=4)
    embeddings = model(model.features(tiny), model.graph(tiny))
    user, _, branch = reference(model, tiny)
    weight = model.fuse_item.weight
    for index, channel in enumerate(["id", *model.modalities]):
        part = branch[index] @ weight[:, 4 * index : 4 * index + 4].t()
        expected = user @ (part + model.fuse_item.bias if channel == "id" else part).t()
        assert torch.allclose(embeddings.user[channel] @ embeddings.item[channel].t(), expected, atol=1e-5)


def test_without_alignment_there_are_no_maps_for_it(tiny):
    model = SLMRec.from_data(tiny, embedding_dim=4, alignment=0.0)
    assert not model.align
    features = model.features(tiny)
    embeddings = model(features, model.graph(tiny))
    user, item = embeddings.concatenated()
    u = torch.nn.functional.normalize(user[BATCH.user], dim=1)
    i = torch.nn.functional.normalize(item[BATCH.positive], dim=1)
    assert torch.allclose(model.loss(embeddings, BATCH, features), cross_entropy(u, i, 0.2), atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [{"embedding_dim": 0}, {"num_layers": -1}, {"temperature": 0.0}, {"alignment": -1.0},
     {"alignment_temperature": 0.0}],
)  # fmt: skip
def test_bad_arguments(tiny, bad):
    with pytest.raises(ConfigError, match=f"'SLMRec' expects {next(iter(bad))} "):
        SLMRec.from_data(tiny, **bad)


def test_needs_a_modality(tiny):
    with pytest.raises(DataError, match="modality"):
        SLMRec.from_data(tiny, modalities=[])
