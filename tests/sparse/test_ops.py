import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.utils import softmax

from mmgraph_robust.errors import DataError
from mmgraph_robust.sparse import Adjacency, edge_softmax, kernels, sddmm, segment_reduce, spmm


@pytest.fixture
def adj():
    # Row 2 and column 0 are isolated; the edge (0, 1) is there twice.
    edge_index = torch.tensor([[3, 0, 0, 0, 1, 3], [1, 1, 1, 3, 2, 3]])
    return Adjacency.from_edge_index(edge_index, num_rows=4, num_cols=5)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_spmm_equals_dense_for_both_directions(adj):
    x, y = torch.randn(5, 3), torch.randn(4, 3)
    assert torch.allclose(spmm(adj, x), adj.to_dense() @ x)
    assert torch.allclose(spmm(adj.t(), y), adj.to_dense().t() @ y)


def test_first_and_second_derivatives(adj):
    value, x, left, right = doubles(6), doubles(5, 3), doubles(4, 3), doubles(5, 3)
    assert gradcheck(lambda v, z: spmm(adj, z, v), (value, x))
    assert gradgradcheck(lambda v, z: spmm(adj, z, v), (value, x))
    assert gradcheck(lambda a, b: sddmm(adj, a, b), (left, right))
    assert gradgradcheck(lambda a, b: sddmm(adj, a, b), (left, right))
    assert gradcheck(lambda v: edge_softmax(adj, v), (value,))


def test_values_of_the_adjacency_receive_gradients(adj):
    value = torch.rand(6, requires_grad=True)
    x = torch.randn(5, 3)
    spmm(adj.with_value(value), x).square().sum().backward()
    dense = torch.zeros(4, 5).index_put(
        (adj.row.long(), adj.col.long()), other := value.detach().requires_grad_(), True
    )
    (dense @ x).square().sum().backward()
    assert torch.allclose(value.grad, other.grad, atol=1e-5)


def test_sddmm_equals_loop_with_and_without_the_library_kernel(adj, monkeypatch):
    left, right = torch.randn(4, 3), torch.randn(5, 3)
    expected = torch.tensor([float(left[i] @ right[j]) for i, j in adj.edge_index().t().tolist()])
    assert torch.allclose(sddmm(adj, left, right), expected, atol=1e-6)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "_GATHER_ELEMENTS", 6)
    assert torch.allclose(sddmm(adj, left, right), expected, atol=1e-6)


def test_edge_softmax_equals_pyg_and_does_not_overflow(adj):
    logits = torch.tensor([1e4, -3.0, 2.0, 0.5, 1e4, 1e4 - 1])
    assert torch.allclose(edge_softmax(adj, logits), softmax(logits, adj.row.long(), num_nodes=4))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_segment_reduce(adj, reduce):
    x = torch.randn(6)
    expected = torch.zeros(4)
    for row in range(4):
        own = x[adj.row == row]
        if own.numel():
            expected[row] = getattr(own, reduce)()
    assert torch.allclose(segment_reduce(adj, x, reduce), expected)


def test_empty_graph_and_half_precision(adj):
    empty = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), num_rows=3, num_cols=2)
    x = torch.randn(2, 4, requires_grad=True)
    spmm(empty, x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(2, 4))
    assert sddmm(empty, torch.randn(3, 4), torch.randn(2, 4)).shape == (0,)
    assert edge_softmax(empty, torch.zeros(0)).shape == (0,)
    half = torch.randn(5, 3).bfloat16()
    assert spmm(adj, half).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda a: spmm(a, torch.randn(4, 3)), "'x'"),
        (lambda a: spmm(a, torch.ones(5, 3, dtype=torch.long)), "'x'"),
        (lambda a: spmm(a, torch.randn(5, 3), torch.ones(2)), "'value'"),
        (lambda a: sddmm(a, torch.randn(3, 3), torch.randn(5, 3)), "'left'"),
        (lambda a: sddmm(a, torch.randn(4, 3), torch.randn(5, 2)), "'left' and 'right'"),
        (lambda a: edge_softmax(a, torch.randn(5)), "'logits'"),
        (lambda a: edge_softmax(a, torch.ones(6, dtype=torch.long)), "'logits'"),
    ],
)
def test_bad_input_names_the_argument(adj, call, named):
    with pytest.raises(DataError, match=named):
        call(adj)
