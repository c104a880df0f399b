import math

import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import contrast, contrast_with_all


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(7, 3, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)]


def by_loops(left, right, rows, temperature):
    total = 0.0
    for b in rows.tolist():
        cosines = [left[b] @ r / (left[b].norm() * r.norm()) / temperature for r in right]
        total = total - torch.log_softmax(torch.stack(cosines), 0)[b]
    return total


@pytest.mark.parametrize("memory", [1, 40, 1 << 20])
def test_contrast_with_all_equals_loops_in_any_blocks(pair, memory):
    left, right = pair
    rows = torch.tensor([2, 5, 2, 0])
    value = contrast_with_all(left, right, rows, 0.2, memory=memory)
    expected = by_loops(left, right, rows, 0.2)
    assert torch.allclose(value, expected)
    for one, other in zip(torch.autograd.grad(value, pair), torch.autograd.grad(expected, pair), strict=True):
        assert torch.allclose(one, other)


@pytest.mark.parametrize("memory", [4 * 100 * 40, 1 << 28], ids=["many blocks", "one block"])
def test_contrast_with_all_keeps_no_cosines(memory):
    """What the backward pass keeps grows with the rows and their width, never with rows times nodes."""
    left, right = torch.randn(400, 2, requires_grad=True), torch.randn(400, 2, requires_grad=True)
    rows = torch.arange(100)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        for _ in range(3):
            contrast_with_all(left, right, rows, 0.2, memory=memory)
    assert max(kept) <= 2 * 400 * 2
    assert sum(kept) < 100 * 400


def test_contrast_with_all_makes_one_block_at_a_time(pair, monkeypatch):
    sizes = []
    monkeypatch.setattr(contrast, "matmul", lambda a, b: sizes.append(a.size(0) * b.size(1)) or a @ b)
    left, right = pair
    contrast_with_all(left, right, torch.tensor([2, 5, 2, 0]), 0.2, memory=4 * 4 * 3).backward()
    # Three nodes, three and one, forward and backward.
    assert sorted(sizes) == [4, 4, 12, 12, 12, 12]


def test_bad_input_is_named():
    x, rows = torch.randn(4, 2), torch.tensor([0])
    for left, right in ((x[:0], x[:0]), (x, x[:3]), (x, x[:, :1]), (x[0], x[0])):
        with pytest.raises(DataError, match="'left' and 'right' expect one shape"):
            contrast_with_all(left, right, rows, 0.2)
    with pytest.raises(ConfigError, match="'temperature'"):
        contrast_with_all(x, x, rows, 0.0)


def test_empty_rows_of_the_matrices_stay_finite():
    left = torch.zeros(3, 2, requires_grad=True)
    value = contrast_with_all(left, torch.eye(3, 2), torch.tensor([0, 1]), 0.1)
    assert float(value.detach()) == pytest.approx(2 * math.log(3))
    value.backward()
    assert torch.isfinite(left.grad).all()
