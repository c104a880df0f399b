import pytest
import torch

from mmgraph_robust.typing import WITH_ONEDNN
from mmgraph_robust.utils import matmul

SHAPES = [(7, 5, 3), (1, 1, 1), (40, 300, 16), (33, 16, 70), (64, 1000, 64)]


LAYOUTS = {
    "rows": torch.clone,
    "transposed": lambda x: x.t().contiguous().t(),
    "columns of a wider one": lambda x: torch.cat([x, x, x], 1).split(x.size(1), 1)[1],
    "the same, transposed": lambda x: torch.cat([x, x, x]).t().contiguous().split(x.size(0), 1)[1].t(),
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "one row, expanded": lambda x: x[:1].expand_as(x),
    "one column, expanded": lambda x: x[:, :1].expand_as(x),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("of_right", LAYOUTS)
@pytest.mark.parametrize("of_left", LAYOUTS)
def test_equals_torch_and_its_gradients(shape, of_left, of_right):
    n, k, m = shape
    left, right = LAYOUTS[of_left](torch.randn(n, k)), LAYOUTS[of_right](torch.randn(k, m))
    grad = torch.randn(n, m)

    def run(product):
        a, b = left.detach().requires_grad_(), right.detach().requires_grad_()
        y = product(a, b)
        return [y.detach(), *torch.autograd.grad(y, (a, b), grad)]

    for got, expected in zip(run(matmul), run(torch.matmul), strict=True):
        # Sums of many terms that cancel are known to so many times their rounding.
        assert torch.allclose(got, expected, rtol=1e-5, atol=1e-4 + 2e-6 * max(shape))


def test_second_derivatives():
    a, b = torch.randn(4, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True)

    def penalty(product):
        first = torch.autograd.grad(product(a, b).tanh().square().sum(), a, create_graph=True)[0]
        return torch.autograd.grad(first.square().sum(), (a, b))

    for got, expected in zip(penalty(matmul), penalty(torch.matmul), strict=True):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_only_wanted_gradients_are_computed():
    a, b = torch.randn(4, 3), torch.randn(3, 2, requires_grad=True)
    matmul(a, b).sum().backward()
    assert a.grad is None
    assert torch.allclose(b.grad, a.sum(0)[:, None].expand(3, 2), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_empty_matrices_are_torchs(dtype):
    a, b = torch.randn(4, 3, dtype=dtype), torch.randn(3, 2, dtype=dtype)
    assert torch.equal(matmul(a, b), a @ b)
    assert matmul(torch.randn(0, 3), torch.randn(3, 2)).shape == (0, 2)
    assert torch.equal(matmul(torch.randn(2, 0), torch.randn(0, 2)), torch.zeros(2, 2))
    with pytest.raises(RuntimeError, match="shapes"):
        matmul(torch.randn(2, 3), torch.randn(2, 3))


def test_sparse_matrices_are_torchs():
    sparse, dense = torch.randn(4, 3).relu().to_sparse(), torch.randn(3, 2)
    assert torch.allclose(matmul(sparse, dense), sparse.to_dense() @ dense, atol=1e-6)


def test_autocast_goes_on_to_mean_half_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matmul(torch.randn(4, 3), torch.randn(3, 2)).dtype == torch.bfloat16


def test_repeatable():
    a, b = torch.randn(300, 200), torch.randn(200, 64)
    assert torch.equal(matmul(a, b), matmul(a, b))
    assert isinstance(WITH_ONEDNN, bool)
