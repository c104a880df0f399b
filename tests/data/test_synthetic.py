from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmgraph_robust.data import features, interactions, modalities, synthetic, validate
from mmgraph_robust.data.schema import INTERACTS, ITEM, USER
from mmgraph_robust.data.synthetic import _tastes
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import child_generator


def one_hot(data, split) -> Tensor:
    matrix = torch.zeros(data[USER].num_nodes, data[ITEM].num_nodes)
    user, item = interactions(data, split)
    matrix[user, item] = 1
    return matrix


def recall(data, scores: Tensor, k: int = 20) -> float:
    train, test = one_hot(data, "train"), one_hot(data, "test")
    top = scores.masked_fill(train > 0, float("-inf")).topk(k, dim=1).indices
    found = test.gather(1, top).sum(1)
    has = test.sum(1) > 0
    return float((found[has] / test.sum(1)[has]).mean())


def planted_tastes(seed: int = 0, num_users: int = 600, num_items: int = 400) -> tuple[Tensor, Tensor]:
    """The tastes of users and items that the default data set of this seed was drawn from."""
    return _tastes(num_users, num_items, 12, 8, child_generator(seed, "synthetic", "world"))


def ridge(x: Tensor, y: Tensor, penalty: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weights of a ridge regression, and the share of the variance that it explains on the items left out."""
    x = torch.cat([x - x.mean(0), torch.ones(x.size(0), 1)], dim=1).double()
    y = y.double()
    fit = torch.arange(x.size(0)) % 4 != 0
    a = x[fit].t() @ x[fit] + penalty * torch.eye(x.size(1), dtype=torch.double)
    weight = torch.linalg.solve(a, x[fit].t() @ y[fit])
    left = y[~fit]
    share = 1 - (left - x[~fit] @ weight).pow(2).sum() / (left - left.mean(0)).pow(2).sum()
    return weight[:-1].float(), share


def overturned(x: Tensor, weight: Tensor, budget: float = 0.05) -> float:
    """Mean change of a linear reading, worst case in the row's ball, in units of the reading's own spread."""
    read = x @ weight
    gain = torch.linalg.matrix_norm(weight, ord=2)
    return float((budget * x.norm(dim=1) * gain).mean() / (read - read.mean(0)).norm(dim=1).mean())


@pytest.fixture(scope="module")
def data():
    return synthetic(seed=0)


def test_keeps_the_exchange_format(data):
    assert validate(data, splits=("train", "val", "test")) is data
    assert (data[USER].num_nodes, data[ITEM].num_nodes, data.name) == (600, 400, "synthetic")
    assert {name: tuple(x.shape) for name, x in features(data).items()} == {"visual": (400, 24), "textual": (400, 24)}
    per_user = torch.bincount(data[INTERACTS].edge_index[0], minlength=600)
    assert 7 < float(per_user.float().mean()) < 9
    assert int(one_hot(data, "train").sum(1).min()) >= 1


def test_same_seed_same_data_bitwise(data):
    again, other = synthetic(seed=0), synthetic(seed=1)
    assert torch.equal(again[INTERACTS].edge_index, data[INTERACTS].edge_index)
    assert torch.equal(again[INTERACTS].test_mask, data[INTERACTS].test_mask)
    for name, x in features(data).items():
        assert torch.equal(features(again)[name], x)
        assert not torch.equal(features(other)[name], x)
    assert not torch.equal(other[INTERACTS].edge_index, data[INTERACTS].edge_index)


def test_a_modality_does_not_depend_on_its_neighbours(data):
    alone = synthetic(modalities={"textual": 24}, sensitive="textual", fragility={"textual": 0.0}, seed=0,
                      informativeness={"textual": 0.8})  # fmt: skip
    assert torch.equal(features(alone)["textual"], features(data)["textual"])
    assert torch.equal(alone[INTERACTS].edge_index, data[INTERACTS].edge_index)


@pytest.mark.parametrize("widths", [{}, {"audio": 3}, {"a": 2, "b": 8, "c": 40, "d": 16}])
def test_any_number_of_modalities(widths):
    data = synthetic(num_users=40, num_items=30, modalities=widths, seed=2)
    assert modalities(data) == list(widths)
    assert data.sensitive_modality == next(iter(widths), "")
    assert all(bool(torch.isfinite(x).all()) for x in features(data).values())


def test_names_the_right_answer():
    widths = {"visual": 8, "textual": 8}
    small = {"num_users": 40, "num_items": 30, "modalities": widths}
    assert synthetic(**small, sensitive="textual").sensitive_modality == "textual"
    data = synthetic(**small, fragility={"visual": 0.2, "textual": 0.9}, informativeness={"visual": 0.5})
    assert data.sensitive_modality == "textual"
    assert data.planted == {
        "informativeness": {"visual": 0.5, "textual": 0.95},
        "fragility": {"visual": 0.2, "textual": 0.9},
    }


def test_popularity_follows_a_power_law():
    flat, steep = (
        one_hot(synthetic(popularity_exponent=exponent), "train").sum(0).sort(descending=True).values
        for exponent in (0.0, 1.2)
    )
    assert float(steep[:20].sum() / steep.sum()) > 1.5 * float(flat[:20].sum() / flat.sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tastes_rank_far_above_popularity(seed):
    data = synthetic(seed=seed)
    users, items = planted_tastes(seed)
    popularity = one_hot(data, "train").sum(0)
    by_popularity = recall(data, popularity.expand(600, -1))
    # Measured: 0.56 to 0.62 against 0.17 to 0.21.
    assert recall(data, 7 * users @ items.t() + popularity.clamp(min=1).log()) > 2 * by_popularity


def test_features_tell_what_a_user_likes(data):
    train = one_hot(data, "train")
    x = features(data)["textual"]
    content = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    shuffled = content[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    assert recall(data, train @ content @ content.t()) > 1.5 * recall(data, train @ shuffled @ shuffled.t())


@pytest.mark.parametrize("name", ["visual", "textual"])
def test_informativeness_is_what_a_ridge_regression_explains(name):
    _, items = planted_tastes()
    none, half, nearly_all = (
        float(ridge(features(synthetic(informativeness={name: share}))[name], items)[1]) for share in (0.0, 0.5, 0.95)
    )
    assert none < 0.05
    assert none + 0.05 < half < nearly_all - 0.25


@pytest.mark.parametrize("sensitive", ["visual", "textual"])
def test_a_small_change_overturns_only_the_sensitive_modality(sensitive):
    data = synthetic(sensitive=sensitive)
    _, items = planted_tastes()
    for name, x in features(data).items():
        weight, explained = ridge(x, items)
        assert explained > 0.3
        # Measured: 2.3 spreads of the reading for the sensitive modality, 0.07 for the sturdy one.
        assert (overturned(x, weight) > 1) == (name == sensitive)
        assert overturned(x, weight) > 1 or overturned(x, weight) < 0.2


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="num_users >= 1"):
        synthetic(num_users=0)
    with pytest.raises(ConfigError, match="interactions_per_user above 0, at most 5"):
        synthetic(num_items=5)
    with pytest.raises(ConfigError, match="finite popularity_exponent"):
        synthetic(popularity_exponent=float("nan"))
    with pytest.raises(ConfigError, match="unknown modality 'visul'; did you mean 'visual'"):
        synthetic(sensitive="visul")
    with pytest.raises(ConfigError, match="unknown modality 'audio'"):
        synthetic(fragility={"audio": 0.5})
    with pytest.raises(ConfigError, match=r"fragility in 0 to 1 \(got 1.5 for 'visual'\)"):
        synthetic(fragility={"visual": 1.5})
    with pytest.raises(ConfigError, match="informativeness in 0 to 1"):
        synthetic(informativeness={"visual": float("nan")})
    with pytest.raises(ConfigError, match="at least 2 columns for modality 'a'"):
        synthetic(modalities={"a": 1})
