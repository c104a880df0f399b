import importlib
import json
from importlib.resources import files

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse import ENGINES, Adjacency, choose_engine, edge_softmax, sddmm, segment_reduce, spmm
from mmgraph_robust.sparse.engines import gather
from mmgraph_robust.sparse.structure import Structure

from .graphs import edges

CPU = torch.device("cpu")
HERE = [name for name, engine in ENGINES.items() if engine.missing(CPU) is None]


@pytest.fixture
def adj():
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.stack([torch.randint(0, 30, (200,), generator=generator)] * 2)
    edge_index[1] = torch.randint(0, 20, (200,), generator=generator)
    values = torch.rand(200, generator=generator)
    return Adjacency.from_edge_index(edge_index, num_rows=33, num_cols=22, values=values)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_engine_gives_the_same(adj, name, dtype, monkeypatch):
    # Small chunks, so that the engine that cuts the edges has to put them together.
    monkeypatch.setattr(gather, "_ELEMENTS", 100)
    tolerance = {"atol": 1e-5 if dtype != torch.bfloat16 else 0.05, "rtol": 1e-4 if dtype != torch.bfloat16 else 0.02}
    x, left = torch.randn(22, 7).to(dtype), torch.randn(33, 7).to(dtype)
    dense = adj.to_dense().to(torch.float64)
    assert torch.allclose(spmm(adj, x, engine=name).double(), dense @ x.double(), **tolerance)
    expected = (left.double() @ x.double().t())[adj.row.long(), adj.col.long()]
    assert torch.allclose(sddmm(adj, left, x, engine=name).double(), expected, **tolerance)
    assert spmm(adj, x, engine=name).dtype == dtype
    logits = torch.randn(200).to(dtype)
    for reduce in ("sum", "mean", "max"):
        reference = segment_reduce(adj, logits.double(), reduce, engine="gather")
        assert torch.allclose(segment_reduce(adj, logits, reduce, engine=name).double(), reference, **tolerance)
    reference = edge_softmax(adj, logits.double(), engine="gather")
    assert torch.allclose(edge_softmax(adj, logits, engine=name).double(), reference, **tolerance)


@pytest.mark.parametrize("name", HERE)
def test_every_engine_has_the_same_gradients(name):
    adj = Adjacency.from_edge_index(torch.tensor([[3, 0, 0, 1], [1, 1, 1, 2]]), num_rows=4, num_cols=5)
    generator = torch.Generator().manual_seed(0)
    value, x, left = (
        torch.randn(*shape, dtype=torch.double, generator=generator, requires_grad=True)
        for shape in ((4,), (5, 3), (4, 3))
    )
    assert gradcheck(lambda v, z: spmm(adj, z, v, engine=name), (value, x))
    assert gradcheck(lambda a, b: sddmm(adj, a, b, engine=name), (left, x))
    assert gradcheck(lambda v: edge_softmax(adj, v, engine=name), (value,))


@pytest.mark.parametrize("name", HERE)
@settings(max_examples=40, deadline=None)
@given(graph=edges(), dim=st.sampled_from([0, 1, 3, 16, 33]), seed=st.integers(0, 99))
def test_every_engine_equals_dense_algebra(name, graph, dim, seed):
    edge_index, values, rows, cols = graph
    generator = torch.Generator().manual_seed(seed)
    adj = Adjacency.from_edge_index(edge_index, num_rows=rows, num_cols=cols, values=values)
    # Neither side lies in memory row by row.
    x, left = (torch.randn(dim, size, generator=generator).t() for size in (cols, rows))
    # Indices too large for int32 cannot be tried, but their type can.
    wide = Adjacency(Structure(adj.rowptr.long(), adj.col.long(), cols), adj.value)
    for each in (adj, wide):
        assert torch.allclose(spmm(each, x, engine=name), adj.to_dense() @ x, atol=1e-5)
        expected = (left @ x.t())[adj.row.long(), adj.col.long()]
        assert torch.allclose(sddmm(each, left, x, engine=name), expected, atol=1e-5)
        on_edges = torch.randn(adj.num_edges, dim, generator=generator)
        pattern = torch.nn.functional.one_hot(adj.row.long(), rows).t().float()
        assert torch.allclose(segment_reduce(each, on_edges, engine=name), pattern @ on_edges, atol=1e-5)
        largest = torch.stack(
            [on_edges[adj.row == i].amax(0) if (adj.row == i).any() else torch.zeros(dim) for i in range(rows)]
        )
        assert torch.equal(segment_reduce(each, on_edges, "max", engine=name), largest)


@pytest.mark.parametrize("name", HERE)
def test_no_engine_adds_up_in_half_precision(name):
    # In float16, 2048 + 1 is 2048.
    adj = Adjacency.from_edge_index(torch.stack([torch.zeros(4096), torch.arange(4096)]).long())
    ones = torch.ones(4096, 2, dtype=torch.float16)
    assert torch.equal(spmm(adj, ones, engine=name), torch.full((1, 2), 4096, dtype=torch.float16))
    assert torch.equal(segment_reduce(adj, ones, engine=name), torch.full((1, 2), 4096, dtype=torch.float16))
    wide = torch.ones(1, 4096, dtype=torch.float16)
    assert float(sddmm(adj, wide, wide.expand(4096, -1), engine=name)[0]) == 4096


@pytest.mark.parametrize("name", HERE)
def test_rows_of_minus_infinity_are_not_rows_without_edges(name):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 2], [0, 1, 0]]), num_rows=4)
    x = torch.tensor([-torch.inf, -torch.inf, 1.0])
    assert segment_reduce(adj, x, "max", engine=name).tolist() == [-torch.inf, 0.0, 1.0, 0.0]


def test_bags_build_no_graph_of_their_own(adj):
    engine, x = ENGINES["embedding_bag"], torch.randn(22, 3, requires_grad=True)
    value = torch.randn(200, requires_grad=True)
    assert not engine.matmul(adj, value, x).requires_grad
    assert not engine.segment(adj, value, "sum").requires_grad
    assert not engine.segment(adj, value, "max").requires_grad


def test_an_engine_without_kernels_for_a_type_is_not_its_default():
    assert torch.float64 not in ENGINES["embedding_bag"].dtypes
    assert choose_engine("matmul", CPU, dtype=torch.float64).name != "embedding_bag"
    assert choose_engine("matmul", CPU, "embedding_bag", dtype=torch.float64).name == "embedding_bag"


@pytest.mark.parametrize("name", HERE)
def test_every_engine_takes_an_empty_graph(name):
    empty = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), num_rows=3, num_cols=2)
    assert torch.equal(spmm(empty, torch.ones(2, 4), engine=name), torch.zeros(3, 4))
    assert sddmm(empty, torch.ones(3, 4), torch.ones(2, 4), engine=name).shape == (0,)
    assert torch.equal(segment_reduce(empty, torch.ones(0), "max", engine=name), torch.zeros(3))


def test_the_measured_table_names_engines_and_operations():
    table = json.loads((files("mmgraph_robust.sparse") / "engines.json").read_text())
    assert set(table) == {"cpu", "cuda"}
    for operations in table.values():
        assert set(operations) == {"matmul", "dot", "segment"}
        for operation, names in operations.items():
            assert names
            assert all(operation in ENGINES[name].operations for name in names)


def test_argument_before_environment_before_table(monkeypatch):
    fastest = choose_engine("matmul", CPU).name
    assert fastest == next(
        n
        for n in json.loads((files("mmgraph_robust.sparse") / "engines.json").read_text())["cpu"]["matmul"]
        if n in HERE
    )
    monkeypatch.setenv("MMGRAPH_ENGINE", "gather")
    assert choose_engine("matmul", CPU).name == "gather"
    assert choose_engine("matmul", CPU, "torch").name == "torch"
    monkeypatch.setenv("MMGRAPH_ENGINE", "tensorflow")
    with pytest.raises(ConfigError, match="unknown engine 'tensorflow'"):
        choose_engine("matmul", CPU)


def test_an_engine_that_lacks_the_operation_leaves_it_to_the_table():
    assert choose_engine("segment", CPU, "torch").name != "torch"


def test_engines_that_are_not_there_say_how_to_get_them(monkeypatch):
    for name in ("torch_sparse", "torch_scatter"):
        module = importlib.import_module(f"mmgraph_robust.sparse.engines.{name}")
        monkeypatch.setattr(module, f"WITH_{name.upper()}", False)
        with pytest.raises(ConfigError, match="pip install"):
            choose_engine("matmul", CPU, name)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert choose_engine("dot", CPU).name == "gather"


def test_deterministic_on_cuda_or_an_error(monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    cuda = torch.device("cuda")
    assert choose_engine("matmul", cuda).deterministic_on_cuda
    with pytest.raises(ConfigError, match="not deterministic on CUDA"):
        choose_engine("matmul", cuda, "torch")
    assert choose_engine("matmul", CPU).name != "gather"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["torch", "gather", None])
def test_cuda_equals_cpu(adj, name):
    there = adj.to("cuda")
    x = torch.randn(22, 64)
    assert torch.allclose(spmm(there, x.cuda(), engine=name).cpu(), spmm(adj, x), atol=1e-4)
    left = torch.randn(33, 64)
    assert torch.allclose(sddmm(there, left.cuda(), x.cuda(), engine=name).cpu(), sddmm(adj, left, x), atol=1e-4)
