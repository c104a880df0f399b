import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency, spmm
from mmgraph_robust.typing import WITH_TORCH_SPARSE

from .graphs import edges


def dense(edge_index, values, rows, cols):
    matrix = torch.zeros(rows, cols)
    for (row, col), value in zip(edge_index.t().tolist(), values.tolist(), strict=True):
        matrix[row, col] += value
    return matrix


@settings(max_examples=60, deadline=None)
@given(edges())
def test_equals_dense_with_its_transpose(case):
    edge_index, values, rows, cols = case
    adj = Adjacency.from_edge_index(edge_index, num_rows=rows, num_cols=cols, values=values)
    expected = dense(edge_index, values, rows, cols)
    assert torch.allclose(adj.to_dense(), expected)
    assert torch.allclose(adj.t().to_dense(), expected.t())
    assert adj.t().t() is adj
    assert torch.equal(edge_index[:, adj.order], adj.edge_index())
    assert torch.equal(adj.values()[adj.permutation], adj.t().values())
    assert adj.degree().tolist() == [int((edge_index[0] == r).sum()) for r in range(rows)]


@settings(max_examples=40, deadline=None)
@given(edges())
def test_normalisations_equal_dense(case):
    edge_index, values, rows, cols = case
    adj = Adjacency.from_edge_index(edge_index, num_rows=rows, num_cols=cols, values=values)
    matrix = adj.to_dense().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        r, c = matrix.sum(1, keepdims=True), matrix.sum(0, keepdims=True)
        expected = {"row": matrix / r, "col": matrix / c, "sym": matrix / np.sqrt(r * c)}
    for how, value in expected.items():
        got = adj.normalize(how)
        assert np.allclose(got.to_dense().numpy(), np.nan_to_num(value), atol=1e-5)
        assert np.allclose(got.t().to_dense().numpy(), np.nan_to_num(value).T, atol=1e-5)


def test_sizes_as_torch_counts_them():
    edge_index = torch.tensor([[0, 2], [1, 0]])
    adj = Adjacency.from_edge_index(edge_index, num_rows=edge_index.max() + 1, num_cols=np.int64(2))
    assert adj.shape == (3, 2)
    assert all(type(size) is int for size in adj.shape)


def test_gcn_normalisation_equals_pyg():
    edge_index = torch.tensor([[0, 1, 2, 2, 3], [1, 0, 0, 1, 1]])
    _, weight = gcn_norm(edge_index, num_nodes=4, add_self_loops=False)
    expected = torch.zeros(4, 4).index_put((edge_index[1], edge_index[0]), weight)
    got = Adjacency.from_edge_index(edge_index.flip(0), num_rows=4, num_cols=4).normalize("gcn")
    assert torch.allclose(got.to_dense(), expected)
    with pytest.raises(DataError, match="square"):
        Adjacency.from_edge_index(edge_index, num_rows=4, num_cols=5).normalize("gcn")


def test_random_walk_with_self_loops_by_hand():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), num_rows=3, num_cols=3)
    walk = adj.with_self_loops().normalize("row").to_dense()
    assert torch.allclose(walk, torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]))
    with pytest.raises(DataError, match="square"):
        Adjacency.from_edge_index(torch.tensor([[0], [1]])).with_self_loops()


@settings(max_examples=40, deadline=None)
@given(edges(), st.randoms(use_true_random=False))
def test_select_and_bipartite_equal_dense_without_sorting(case, random):
    edge_index, values, rows, cols = case
    adj = Adjacency.from_edge_index(edge_index, num_rows=rows, num_cols=cols, values=values)
    keep = torch.tensor([random.random() < 0.5 for _ in range(adj.num_edges)], dtype=torch.bool)
    part = adj.select(keep)
    expected = dense(adj.edge_index()[:, keep], adj.values()[keep], rows, cols)
    for matrix, reference in ((part, expected), (adj, dense(edge_index, values, rows, cols))):
        assert torch.allclose(matrix.to_dense(), reference)
        assert torch.allclose(matrix.t().to_dense(), reference.t())
        both = matrix.bipartite()
        square = torch.zeros(rows + cols, rows + cols)
        square[:rows, rows:], square[rows:, :rows] = reference, reference.t()
        assert torch.allclose(both.to_dense(), square)
        assert torch.allclose(both.t().to_dense(), square)
        assert torch.equal(both.values()[both.permutation], both.t().values())
        # What is not sorted again has to come out sorted.
        key = both.row.long() * (rows + cols) + both.col
        assert bool((key.diff() >= 0).all())
        twin = both.structure.t()
        assert bool(((twin.row.long() * (rows + cols) + twin.col).diff() >= 0).all())
    with pytest.raises(DataError, match="'keep'"):
        adj.select(torch.ones(adj.num_edges + 1, dtype=torch.bool))


@settings(max_examples=30, deadline=None)
@given(edges(), edges())
def test_sum_equals_dense_and_passes_gradients(first, second):
    rows, cols = max(first[2], second[2]), max(first[3], second[3])
    values = [case[1].clone().requires_grad_() for case in (first, second)]
    parts = [
        Adjacency.from_edge_index(case[0], num_rows=rows, num_cols=cols, values=value)
        for case, value in zip((first, second), values, strict=True)
    ]
    total = Adjacency.sum(parts)
    assert torch.allclose(total.to_dense(), parts[0].to_dense() + parts[1].to_dense())
    x = torch.randn(cols, 2, generator=torch.Generator().manual_seed(0))
    spmm(total, x).sum().backward()
    for case, value in zip((first, second), values, strict=True):
        assert torch.allclose(value.grad, x.sum(1)[case[0][1]], atol=1e-5)


def test_sum_of_other_shapes():
    a, b = (Adjacency.from_edge_index(torch.tensor([[0], [n]])) for n in (1, 2))
    with pytest.raises(DataError, match="one shape"):
        Adjacency.sum([a, b])


@settings(max_examples=40, deadline=None)
@given(edges())
def test_matrices_of_other_libraries(case):
    edge_index, values, rows, cols = case
    expected = dense(edge_index, values, rows, cols)
    coo = torch.sparse_coo_tensor(edge_index, values, (rows, cols), check_invariants=True)
    matrices = [coo, coo.coalesce(), coo.to_sparse_csr(), coo.to_sparse_csc(), coo.coalesce().t().to_sparse_csr().t()]
    matrices.append(scipy.sparse.coo_array((values.numpy(), edge_index.numpy()), shape=(rows, cols)))
    matrices += [matrices[-1].tocsr(), matrices[-1].tocsc()]
    if WITH_TORCH_SPARSE:
        from torch_sparse import SparseTensor

        matrices.append(SparseTensor(row=edge_index[0], col=edge_index[1], value=values, sparse_sizes=(rows, cols)))
    for matrix in matrices:
        adj = Adjacency.from_matrix(matrix)
        assert adj.shape == (rows, cols)
        assert torch.allclose(adj.to_dense(), expected)


def test_matrices_keep_duplicates_zeros_and_integers():
    coo = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [1, 1, 0]]), torch.tensor([1, 2, 0]), (2, 2))
    adj = Adjacency.from_matrix(coo)
    assert adj.num_edges == 3
    assert adj.values().tolist() == [1.0, 2.0, 0.0]


LAYOUTS = {"coo": torch.sparse_coo, "csr": torch.sparse_csr, "csc": torch.sparse_csc}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_learned_values_of_torch_matrices_keep_their_gradients(layout):
    dense = torch.tensor([[0.0, 2.0, 0.5], [3.0, 0.0, 0.0]], requires_grad=True)
    probe = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    adj = Adjacency.from_matrix(dense.to_sparse(layout=layout))
    assert torch.equal(adj.to_dense(), dense)
    (got,) = torch.autograd.grad(spmm(adj, probe).square().sum(), dense)
    (expected,) = torch.autograd.grad((dense @ probe).square().sum(), dense)
    assert torch.allclose(got, expected * (dense != 0), rtol=1e-4)
    assert got.count_nonzero() == 3
    # A matrix that is a leaf itself.
    leaf = dense.detach().to_sparse(layout=layout).requires_grad_()
    (own,) = torch.autograd.grad(spmm(Adjacency.from_matrix(leaf), probe).square().sum(), leaf)
    assert torch.allclose(own.to_dense(), got, rtol=1e-4)


def test_learned_duplicates_are_added_up_and_keep_their_gradients():
    value = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    coo = torch.sparse_coo_tensor(torch.tensor([[1, 0, 1], [0, 1, 0]]), value, (2, 2))
    adj = Adjacency.from_matrix(coo)
    assert adj.values().tolist() == [2.0, 5.0]
    spmm(adj, torch.tensor([[3.0], [7.0]])).sum().backward()
    assert value.grad.tolist() == [3.0, 7.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_stored_values_keep_their_type(dtype):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), values=torch.ones(2, dtype=dtype))
    made = [adj.with_self_loops(), Adjacency.sum([adj, adj]), adj.normalize("row"), adj.bipartite(), adj.t()]
    assert [matrix.value.dtype for matrix in made] == [dtype] * 5
    assert adj.unweighted().with_self_loops().value.dtype == torch.float32


def test_edge_index_of_pyg_carries_its_size():
    edge_index = EdgeIndex([[0, 1], [2, 0]], sparse_size=(5, 4))
    assert Adjacency.from_edge_index(edge_index).shape == (5, 4)
    assert Adjacency.from_edge_index(EdgeIndex([[0, 1], [2, 0]])).shape == (2, 3)


def test_learned_values_reordered_without_gradients_keep_them_later():
    value = torch.rand(2, requires_grad=True)
    adj = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), values=value)
    with torch.no_grad():
        adj.t()
    spmm(adj.t(), torch.eye(2)).square().sum().backward()
    assert torch.allclose(value.grad, 2 * value.detach())


def test_rows_that_sum_to_nothing_stay_finite():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0], [0, 1]]), num_rows=2, values=torch.tensor([1.0, -1.0]))
    assert torch.isfinite(adj.normalize("sym").values()).all()


def test_indices_are_int32_where_they_fit():
    assert Adjacency.from_edge_index(torch.tensor([[0], [1]])).col.dtype == torch.int32


SMALL = Adjacency.from_edge_index(torch.tensor([[0], [1]]))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [5]]), num_cols=3), "num_cols"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[-1], [0]])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([0, 1])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0.0], [1.0]])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=torch.ones(2)), "values"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=torch.tensor([1])), "values"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), num_rows=-1), "num_rows"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), num_rows=6.5), "'num_rows' expects a whole"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=[1.0]), r"'values' .* \(got list\)"),
        (lambda: Adjacency.from_matrix(scipy.sparse.coo_matrix([[1j]])), "real numbers"),
        (lambda: Adjacency.from_matrix(torch.ones(2, 2, dtype=torch.cfloat).to_sparse()), "real numbers"),
        (lambda: Adjacency.from_matrix(scipy.sparse.coo_array(np.ones(3))), r"two dimensions \(got shape \[3\]\)"),
        (lambda: Adjacency.from_matrix(scipy.sparse.eye(2, dtype=np.longdouble)), "a type that torch knows"),
        (lambda: SMALL.select([True]), r"'keep' expects a tensor \(got list\)"),
        (lambda: Adjacency.from_edge_index(torch.eye(2).to_sparse()), "from_matrix"),
        (lambda: Adjacency.from_matrix(torch.eye(2)), "from_edge_index"),
        (lambda: Adjacency.from_matrix("graph"), "'matrix'"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=torch.ones(1, device="meta")), "meta"),
        (lambda: SMALL.with_value(torch.ones(2)), "'value'"),
        (lambda: SMALL.with_value(torch.ones(1, device="meta")), "'value' is on meta"),
        (lambda: SMALL.select(torch.ones(2, dtype=torch.bool)), "'keep'"),
        (lambda: SMALL.select(torch.ones(1)), "'keep'"),
        (lambda: SMALL.select(torch.ones(1, dtype=torch.bool, device="meta")), "'keep'"),
        (lambda: Adjacency.sum([SMALL, SMALL.t()]), "'matrices'"),
        (lambda: Adjacency.sum([SMALL, SMALL.to("meta")]), "'matrices'"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises(DataError, match=named):
        call()


def test_unknown_normalisation():
    with pytest.raises(ConfigError, match="'sym', 'row', 'col' or 'gcn'"):
        Adjacency.from_edge_index(torch.tensor([[0], [1]])).normalize("left")


def test_repr():
    assert repr(Adjacency.from_edge_index(torch.tensor([[0], [1]]))) == "Adjacency(1 x 2, num_edges=1)"


def test_values_changed_in_place_reach_the_transpose():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 1]]), values=torch.tensor([1.0, 2.0, 3.0]))
    assert adj.t() is adj.t()
    assert adj.t().t() is adj
    adj.value.mul_(2)
    assert torch.equal(adj.t().to_dense(), adj.to_dense().t())


def lasts(adj):
    """Whether nothing that a matrix holds or has computed was made for inference only."""
    parts = [vars(adj), vars(adj.structure)]
    tensors = [x for part in parts for y in part.values() for x in (y if isinstance(y, tuple) else (y,))]
    return not any(x.is_inference() for x in tensors if isinstance(x, torch.Tensor))


LAZY = {
    "row": lambda adj: adj.row,
    "order": lambda adj: adj.order,
    "permutation": lambda adj: adj.permutation,
    "long_pointers": lambda adj: adj.long_pointers,
    "t": lambda adj: adj.t(),
    "structure of t": lambda adj: adj.structure.t(),
    "all of t": lambda adj: [part(adj.t()) for part in (LAZY[n] for n in ("row", "order", "permutation"))],
    "spmm": lambda adj: [spmm(m, torch.ones(2, 2), engine="gather") for m in (adj, adj.t())],
}


@pytest.mark.parametrize("ask", LAZY.values(), ids=LAZY)
@pytest.mark.parametrize("values", [None, torch.tensor([1.0, 2.0, 3.0])], ids=["ones", "weighted"])
def test_what_inference_asked_for_first_can_be_trained_on(ask, values):
    # Sorted by row, so that the order is computed only when it is asked for.
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 1]]), values=values)
    with torch.inference_mode():
        ask(adj)
    for matrix in (adj, adj.t()):
        assert lasts(matrix)
        weight = matrix.values().clone().requires_grad_()
        x = torch.eye(2).requires_grad_()
        # Plain indexing keeps its indices for the backward pass.
        normalized = matrix.with_value(weight).normalize("sym")
        total = spmm(normalized, x).sum() + x[matrix.row].sum() + x[matrix.long_pointers[1]].sum()
        total = total + weight[matrix.permutation].sum() + weight[matrix.order].sum()
        total.backward()
        assert torch.isfinite(weight.grad).all()
        assert torch.isfinite(x.grad).all()


MADE = {
    "from_edge_index": lambda adj: Adjacency.from_edge_index(torch.tensor([[1, 0], [0, 1]]), values=torch.ones(2)),
    "normalize": lambda adj: adj.normalize("sym"),
    "with_value": lambda adj: adj.with_value(torch.ones(3)),
    "select": lambda adj: adj.select(torch.tensor([True, False, True])),
    "bipartite": lambda adj: adj.bipartite(),
    "with_self_loops": lambda adj: adj.with_self_loops(),
    "sum": lambda adj: Adjacency.sum([adj, adj]),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_inference_made_can_be_trained_on(make):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 1]]), values=torch.tensor([1.0, 2.0, 3.0]))
    with torch.inference_mode():
        made = make(adj)
    assert lasts(made)
    assert lasts(made.t())
    x = torch.ones(made.num_cols, 2, requires_grad=True)
    spmm(made, x).sum().backward()
    assert torch.allclose(x.grad[:, 0], made.to_dense().sum(0))


def test_values_that_are_learned_later_get_their_gradient_through_the_transpose():
    value = torch.tensor([1.0, 2.0])
    matrix = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), num_rows=2, num_cols=2, values=value)
    assert matrix.t() is matrix.t()
    matrix.value.requires_grad_()
    spmm(matrix.t(), torch.eye(2)).sum().backward()
    assert matrix.value.grad.tolist() == [1.0, 1.0]
