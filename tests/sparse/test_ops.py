import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.utils import softmax

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency, attention_product, edge_softmax, sddmm, segment_reduce, spmm


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
    assert gradgradcheck(lambda v: edge_softmax(adj, v), (value,))
    for reduce in ("sum", "mean", "max"):
        assert gradcheck(lambda v, r=reduce: segment_reduce(adj, v, r), (value,))
        assert gradgradcheck(lambda v, r=reduce: segment_reduce(adj, v, r), (doubles(6, 2),))
    assert gradcheck(lambda e, v: attention_product(adj, e, v)[0], (value, x))
    assert gradgradcheck(lambda e, v: attention_product(adj, e, v)[0], (value, x))


def test_second_derivatives_of_learned_values_of_the_matrix(adj):
    # The backward pass of the product reads the values in the other order; that reading has to be differentiable too.
    value, x = doubles(6), doubles(5, 3)
    assert gradgradcheck(lambda v, z: spmm(adj.with_value(v), z), (value, x))


def test_attention_product_equals_dense(adj):
    q, k, v = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5, 2)
    count = adj.to_dense()
    weight = (q @ k.t()).exp() * count
    expected = weight / weight.sum(1, keepdim=True).clamp(min=1e-30) @ v
    out, alpha = attention_product(adj, sddmm(adj, q, k), v)
    assert torch.allclose(out, expected, atol=1e-6)
    assert torch.allclose(segment_reduce(adj, alpha)[adj.degree() > 0], torch.ones(1), atol=1e-6)


def test_more_duplicates_than_a_dense_matrix_has_entries():
    adj = Adjacency.from_edge_index(torch.zeros(2, 5, dtype=torch.long), num_rows=1, num_cols=2)
    assert torch.equal(sddmm(adj, torch.ones(1, 3), torch.ones(2, 3)), torch.full((5,), 3.0))


def test_attention_holds_no_tensor_of_edges_by_columns():
    # An entry per edge, or a row per node, is all that is saved for the backward pass; 4,000 x 64 would be 256,000.
    edge_index = torch.randint(0, 80, (2, 4000))
    adj = Adjacency.from_edge_index(edge_index, num_rows=80, num_cols=80)
    x = torch.randn(80, 64, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        attention_product(adj, sddmm(adj, x, x), x)[0].sum().backward()
    assert max(saved) <= 80 * 64


def test_values_of_the_adjacency_receive_gradients(adj):
    value = torch.rand(6, requires_grad=True)
    x = torch.randn(5, 3)
    spmm(adj.with_value(value), x).square().sum().backward()
    dense = torch.zeros(4, 5).index_put(
        (adj.row.long(), adj.col.long()), other := value.detach().requires_grad_(), True
    )
    (dense @ x).square().sum().backward()
    assert torch.allclose(value.grad, other.grad, atol=1e-5)


def test_sddmm_equals_loop(adj):
    left, right = torch.randn(4, 3), torch.randn(5, 3)
    expected = torch.tensor([float(left[i] @ right[j]) for i, j in adj.edge_index().t().tolist()])
    assert torch.allclose(sddmm(adj, left, right), expected, atol=1e-6)


def test_edge_dots_of_two_types_are_of_the_wider_one(adj):
    left, right = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3).bfloat16().requires_grad_()
    wide = right.detach().float().requires_grad_()
    got, expected = sddmm(adj, left, right), sddmm(adj, left, wide)
    assert torch.equal(got, expected)
    grads = torch.autograd.grad(got.square().sum(), (left, right))
    wanted = torch.autograd.grad(expected.square().sum(), (left, wide))
    assert torch.equal(grads[0], wanted[0])
    assert torch.equal(grads[1], wanted[1].bfloat16())
    assert sddmm(adj, left.half(), right).dtype == torch.float32
    # As layers under autocast meet it.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sddmm(adj, left, torch.nn.Linear(3, 3)(torch.randn(5, 3))).dtype == torch.float32


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
    wide = segment_reduce(adj, torch.stack([x, -x], 1), reduce)
    assert torch.allclose(wide[:, 0], expected)
    assert torch.allclose(wide[:, 1], segment_reduce(adj, -x, reduce))


def test_unknown_reduction(adj):
    with pytest.raises(ConfigError, match="'sum', 'mean' or 'max'"):
        segment_reduce(adj, torch.randn(6), "min")


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
        (lambda a: spmm(a, np.ones((5, 3))), r"'x' expects a tensor \(got ndarray\)"),
        (lambda a: segment_reduce(a, [1.0] * 6), r"'x' expects a tensor \(got list\)"),
        (lambda a: sddmm(a, torch.randn(3, 3), torch.randn(5, 3)), "'left'"),
        (lambda a: sddmm(a, torch.randn(4, 3), torch.randn(5, 2)), "'left' and 'right'"),
        (lambda a: spmm(a, torch.randn(5, 3, device="meta")), "'x' is on meta"),
        (lambda a: spmm(a, torch.randn(5, 3), torch.ones(6, device="meta")), "'value' is on meta"),
        (lambda a: attention_product(a, torch.randn(6, 2), torch.randn(5, 3)), "'logits'"),
        (lambda a: segment_reduce(a, torch.randn(5)), "'x'"),
        (lambda a: segment_reduce(a, torch.ones(6, dtype=torch.long)), "'x'"),
        (lambda a: edge_softmax(a, torch.randn(5)), "'logits'"),
        (lambda a: edge_softmax(a, torch.ones(6, dtype=torch.long)), "'logits'"),
    ],
)
def test_bad_input_names_the_argument(adj, call, named):
    with pytest.raises(DataError, match=named):
        call(adj)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_rows_of_halves_are_added_up_in_float32(dtype):
    size = 70_000
    adj = Adjacency.from_edge_index(torch.stack([torch.zeros(size, dtype=torch.long), torch.arange(size)]))
    assert float(edge_softmax(adj, torch.zeros(size, dtype=dtype)).float().sum()) == pytest.approx(1, rel=1e-2)
    mean = adj.with_value(torch.ones(size, dtype=dtype)).normalize("row").values()
    assert float(mean.sum()) == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("engine", ["torch", "gather"])
def test_values_may_lie_in_memory_as_they_like(adj, engine):
    x = torch.randn(5, 3, dtype=torch.double)
    value = torch.tensor([2.0], dtype=torch.double).expand(6)
    assert torch.allclose(spmm(adj, x, value, engine=engine), 2 * spmm(adj, x, engine=engine))
    left, right = doubles(4, 3), doubles(5, 3)
    sddmm(adj, left, right, engine=engine).sum().backward()
    dense = adj.to_dense().double()
    assert torch.allclose(left.grad, dense @ right)
    assert torch.allclose(right.grad, dense.t() @ left)
