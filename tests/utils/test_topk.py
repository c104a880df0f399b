import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.utils import stable_topk


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 6))
def test_order_is_score_then_column(rows, k):
    values, columns = stable_topk(torch.tensor(rows, dtype=torch.float), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        expected = sorted(range(6), key=lambda c: (-row[c], c))[:k]
        assert column == expected
        assert value == [row[c] for c in expected]
