import importlib
import json
from importlib.resources import files

import pytest
import torch
from torch.autograd import gradcheck

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse import ENGINES, Adjacency, choose_engine, edge_softmax, sddmm, segment_reduce, spmm
from mmgraph_robust.sparse.engines import gather

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
