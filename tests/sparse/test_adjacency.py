import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency


@st.composite
def edges(draw):
    rows, cols = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pairs = draw(st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1)), max_size=20))
    edge_index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    values = torch.tensor(draw(st.lists(st.floats(0.1, 2), min_size=len(pairs), max_size=len(pairs))))
    return edge_index, values, rows, cols


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


def test_rows_that_sum_to_nothing_stay_finite():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0], [0, 1]]), num_rows=2, values=torch.tensor([1.0, -1.0]))
    assert torch.isfinite(adj.normalize("sym").values()).all()


def test_indices_are_int32_where_they_fit():
    assert Adjacency.from_edge_index(torch.tensor([[0], [1]])).col.dtype == torch.int32


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [5]]), num_cols=3), "num_cols"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[-1], [0]])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([0, 1])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0.0], [1.0]])), "edge_index"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=torch.ones(2)), "values"),
        (lambda: Adjacency.from_edge_index(torch.tensor([[0], [1]]), values=torch.tensor([1])), "values"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises(DataError, match=named):
        call()


def test_unknown_normalisation():
    with pytest.raises(ConfigError, match="'sym', 'row' or 'col'"):
        Adjacency.from_edge_index(torch.tensor([[0], [1]])).normalize("left")


def test_repr():
    assert repr(Adjacency.from_edge_index(torch.tensor([[0], [1]]))) == "Adjacency(1 x 2, num_edges=1)"
