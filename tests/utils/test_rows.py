import pytest
import torch
import torch.nn.functional as F

from mmgraph_robust.utils import row_lengths, unit_rows


def tables():
    x = torch.randn(7, 5)
    with_zeros = x.clone()
    with_zeros[2] = 0
    transposed, wide = torch.randn(5, 7).t(), torch.randn(7, 300)
    return {"plain": x, "a zero row": with_zeros, "transposed": transposed, "tiny": x * 1e-20, "wide": wide}


@pytest.mark.parametrize("name", tables())
def test_same_numbers_and_gradients_as_torch(name):
    x, grad = tables()[name], torch.randn(7, tables()[name].size(1))

    def run(function):
        a = x.clone().requires_grad_()
        y = function(a)
        return y.detach(), torch.autograd.grad(y, a, grad)[0]

    (y, g), (expected, expected_g) = run(unit_rows), run(lambda a: F.normalize(a, dim=1))
    long = x.norm(dim=1) > 1e-12
    assert torch.equal(y[long], expected[long])
    assert torch.allclose(g[long], expected_g[long], rtol=1e-4, atol=1e-5 * float(expected_g[long].norm()))
    # A row without a direction has none to turn to either; F.normalize's gradient of it would drown all others.
    assert not y[~long].any()
    assert not g[~long].any()


def test_second_derivatives():
    x = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, x)
    assert torch.autograd.gradgradcheck(unit_rows, x)


def test_half_precision_and_empty_tables():
    x = torch.randn(3, 4).bfloat16()
    assert torch.equal(unit_rows(x), F.normalize(x, dim=1))
    half = torch.zeros(2, 3, dtype=torch.half, requires_grad=True)
    unit_rows(half).sum().backward()
    assert not unit_rows(half).any()
    assert torch.isfinite(half.grad).all()
    assert unit_rows(torch.randn(0, 4)).shape == (0, 4)
    assert not unit_rows(torch.randn(3, 4)).requires_grad


def test_lengths_can_be_differentiated_twice_at_zero():
    x = torch.randn(4, 3)
    x[1] = 0
    expected = x.norm(dim=1, keepdim=True)
    assert torch.allclose(row_lengths(x), torch.where(expected > 0, expected, torch.inf))
    x.requires_grad_()
    (first,) = torch.autograd.grad(
        (row_lengths(x) ** -1 * torch.tensor([1.0, 0, 1, 1])[:, None]).sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.isfinite(second).all()
    assert second[[0, 2, 3]].abs().min() > 0
    assert not first[1].any()
