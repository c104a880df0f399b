import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import stable_topk, topk


def assert_stable(rows, k):
    values, columns = stable_topk(torch.tensor(rows, dtype=torch.float), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        expected = sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]
        assert column == expected
        assert value == [row[c] for c in expected]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 6))
def test_order_is_score_then_column(rows, k):
    assert_stable(rows, k)


@pytest.mark.parametrize("k", [-1, 4])
def test_more_than_there_are_is_told(k):
    with pytest.raises(ConfigError, match=rf"'k' expects a number from 0 to 3 \(got {k}\)"):
        stable_topk(torch.randn(2, 3), k)
    assert stable_topk(torch.randn(2, 3), 0)[1].shape == (2, 0)


@pytest.mark.parametrize("group", [2, 3, 5])
def test_the_best_of_groups_keep_the_order_of_ties(group, monkeypatch):
    """Groups of a few columns, so that ties cross them and the last one is short."""
    monkeypatch.setattr(topk, "_GROUP", group)
    monkeypatch.setattr(topk, "_GROUPS_PER_ENTRY", 1)
    generator = torch.Generator().manual_seed(0)
    for k in (1, 2, 4):
        for width in range(k * group, (k + 3) * group + 1):
            scores = torch.randint(-1, 3, (30, width), generator=generator).float()
            assert_stable(scores.masked_fill(scores < 0, -torch.inf).tolist(), k)


def test_of_groups_the_order_and_the_end_count(monkeypatch):
    monkeypatch.setattr(topk, "_GROUP", 4)
    monkeypatch.setattr(topk, "_GROUPS_PER_ENTRY", 1)
    # The last group is one column, the best of all, and there only once.
    assert_stable([[0, 0, 0, 1, 2, 0, 0, 0, 3]], 2)
    # The second group is the best, but of the ones that are tied that of the first comes first.
    assert_stable([[1, 2, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0]], 3)
