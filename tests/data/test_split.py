from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.data import build, random_split
from mmgraph_robust.data.schema import INTERACTS
from mmgraph_robust.errors import ConfigError


def make(counts):
    user = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    item = torch.cat([torch.arange(count) for count in counts])
    order = torch.randperm(user.numel(), generator=torch.Generator().manual_seed(0))
    edge_index = torch.stack([user, item])[:, order]
    return build(edge_index, torch.zeros(user.numel()), {}, num_users=len(counts), num_items=max(counts))


def masks(data):
    return torch.stack([data[INTERACTS][f"{split}_mask"] for split in ("train", "val", "test")])


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=12).filter(any),
    val=st.floats(0, 0.49),
    test=st.floats(0, 0.49),
    min_train=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_disjoint_whole_and_fair_to_every_user(counts, val, test, min_train, seed):
    data = make(counts)
    split = masks(random_split(data, val=val, test=test, min_train=min_train, seed=seed))
    assert torch.equal(split.sum(0), torch.ones(split.size(1), dtype=torch.long))
    user = data[INTERACTS].edge_index[0]
    for index, count in enumerate(counts):
        train, num_val, num_test = split[:, user == index].sum(1).tolist()
        assert train >= min(min_train, count)
        # A share is met to the nearest whole number, unless the training split needs the interactions.
        assert num_test <= count * test + 0.51
        assert num_val <= count * val + 0.51
        if train > min_train:
            assert num_test >= count * test - 0.51
            assert num_val >= count * val - 0.51


def test_same_seed_same_split():
    data = make([20] * 30)
    first, again, other = (masks(random_split(data, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_exact_counts_and_the_original_untouched():
    data = make([10, 20])
    split = random_split(data, val=0.1, test=0.2)
    assert masks(split).sum(1).tolist() == [21, 3, 6]
    assert masks(data).sum(1).tolist() == [30, 0, 0]


def test_choice_is_uniform_over_a_users_interactions():
    data = make([10])
    drawn = torch.stack([masks(random_split(data, test=0.2, seed=seed))[2] for seed in range(400)]).float().mean(0)
    assert float((drawn - 0.2).abs().max()) < 0.1


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (float("nan"), 0.1), (0.0, 1.0)])
def test_shares_are_checked(val, test):
    with pytest.raises(ConfigError, match="shares >= 0 that sum to less than 1"):
        random_split(make([5]), val=val, test=test)


def test_min_train_is_checked():
    with pytest.raises(ConfigError, match="'min_train' expects a number >= 0"):
        random_split(make([5]), min_train=-1)
