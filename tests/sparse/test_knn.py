import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from mmgraph_robust.sparse import Adjacency, cosine_graph, edge_cosine, knn, knn_graph, knn_search
from mmgraph_robust.utils import topk


def brute_force(x, k, include_self):
    """By the definition, in float64: rows of one content share their cosines exactly."""
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    table = (unit @ unit.t()).round(decimals=9).tolist()
    lists = []
    for i, row in enumerate(table):
        others = sorted((-score, j) for j, score in enumerate(row) if j != i)
        lists.append(([i] if include_self else []) + [j for _, j in others[: k - include_self]])
    return torch.tensor(lists)


def rows(num_nodes, dim, seed=0):
    return torch.randn(num_nodes, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("memory", [1, 3000, 1 << 28])
def test_equals_brute_force_on_distinct_rows(include_self, memory, monkeypatch):
    monkeypatch.setattr(knn, "_BLOCK_COLUMNS", 37)
    x = rows(150, 16)
    cosine, neighbour = knn_search(x, 7, include_self=include_self, memory=memory)
    assert torch.equal(neighbour, brute_force(x, 7, include_self))
    expected = torch.nn.functional.cosine_similarity(x.unsqueeze(1), x[neighbour], dim=2)
    assert torch.allclose(cosine, expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.integers(0, 4), min_size=2, max_size=40),
    k=st.integers(1, 12),
    include_self=st.booleans(),
    block=st.sampled_from([3, 8, 1 << 15]),
)
def test_equal_rows_come_in_one_order(kinds, k, include_self, block):
    # Few distinct rows, one of them zero, as imputed features are.
    table = torch.tensor([[0.0, 0.0], [1.0, 0.2], [0.2, 1.0], [-1.0, 0.4], [0.3, -0.3]])
    x = table[torch.tensor(kinds)]
    k = min(k, len(kinds) - (not include_self))
    before, knn._BLOCK_COLUMNS = knn._BLOCK_COLUMNS, block
    try:
        _, neighbour = knn_search(x, k, include_self=include_self, memory=64)
    finally:
        knn._BLOCK_COLUMNS = before
    assert torch.equal(neighbour, brute_force(x, k, include_self))


@pytest.mark.parametrize("duplicates", [[], [3, 4], [3] * 5 + [7] * 2, [0] * 30 + [1] * 11])
def test_few_equal_rows_make_few_candidates(duplicates, monkeypatch):
    x = rows(80, 6)
    x[80 - len(duplicates) :] = x[torch.tensor(duplicates, dtype=torch.long)]
    widths = []
    choose = knn.stable_topk
    monkeypatch.setattr(knn, "stable_topk", lambda scores, k: widths.append(scores.size(1)) or choose(scores, k))
    got = knn_search(x, 10)
    most = 1 + max((duplicates.count(i) for i in duplicates), default=0)
    # The distinct rows themselves, then those that stand at a neighbour's place.
    assert widths[-1] == (10 * min(10, most) if duplicates else 80)
    # As many places for each neighbour as there could be at most.
    members = knn._members
    monkeypatch.setattr(knn, "_members", lambda group, num_groups, most: members(group, num_groups, 10))
    wide = knn_search(x, 10)
    assert all(torch.equal(a, b) for a, b in zip(got, wide, strict=True))
    assert torch.equal(got[1], brute_force(x, 10, True))


def test_long_rows_of_halves_do_not_overflow():
    x = torch.tensor([[6e4, 6e4], [6e4, 5e4], [-6e4, 0.0]]).half()
    assert knn_search(x, 2)[1].tolist() == [[0, 1], [1, 0], [2, 0]]


def test_seventy_missing_pictures_of_two_hundred():
    x = rows(200, 64)
    x[torch.randperm(200, generator=torch.Generator().manual_seed(1))[:70]] = x.mean(0)
    for memory in (1 << 12, 1 << 20, 1 << 28):
        assert torch.equal(knn_search(x, 10, memory=memory)[1], brute_force(x, 10, True))


def test_relabelling_relabels():
    x = rows(60, 8)
    permutation = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    _, first = knn_search(x, 5)
    _, second = knn_search(x[permutation], 5)
    assert torch.equal(permutation[second], first[permutation])


def test_wide_rows_take_the_two_stage_selection():
    x = rows(1570, 6)
    assert x.size(0) >= topk._GROUPS_PER_ENTRY * 3 * topk._GROUP
    assert torch.equal(knn_search(x, 4)[1], brute_force(x, 4, True))


def test_graph_holds_cosines_and_edge_cosine_gives_their_gradient():
    x = rows(20, 4)
    graph = knn_graph(x, 3)
    assert graph.shape == (20, 20)
    assert graph.degree().tolist() == [3] * 20
    assert torch.allclose(edge_cosine(graph, x), graph.values(), atol=1e-6)
    double = x.double().requires_grad_()
    assert gradcheck(lambda z: edge_cosine(graph, z), (double,))


def test_cosine_graph_is_the_graph_with_gradients_where_they_are_wanted():
    x = rows(12, 4).double()
    graph = cosine_graph(x, 3)
    expected = knn_graph(x, 3)
    assert torch.equal(graph.edge_index(), expected.edge_index())
    assert not graph.values().requires_grad
    z = x.clone().requires_grad_()
    with torch.no_grad():
        assert not cosine_graph(z, 3).values().requires_grad
    learned = cosine_graph(z, 3)
    assert torch.equal(learned.edge_index(), expected.edge_index())
    assert torch.allclose(learned.values(), expected.values(), atol=1e-12)
    probe = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (got,) = torch.autograd.grad((learned.to_dense() * probe).sum(), z)
    unit = z / z.norm(dim=1, keepdim=True)
    (wanted,) = torch.autograd.grad(((unit @ unit.t()) * (expected.to_dense() != 0) * probe).sum(), z)
    assert torch.allclose(got, wanted)
    assert gradcheck(lambda v: cosine_graph(v, 3).to_dense(), (z,))


def test_autocast_chooses_the_same_neighbours():
    x = rows(60, 16)
    expected = cosine_graph(x, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = cosine_graph(x.requires_grad_(), 5)
    assert torch.equal(graph.edge_index(), expected.edge_index())
    assert torch.allclose(graph.values(), expected.values(), atol=1e-6)


def test_cache_is_keyed_by_content(tmp_path):
    x = rows(30, 4)
    first = knn_graph(x, 3, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    stamp = path.stat().st_mtime_ns
    again = knn_graph(x, 3, cache=tmp_path)
    assert torch.equal(first.to_dense(), again.to_dense())
    assert path.stat().st_mtime_ns == stamp
    attacked = x.clone()
    attacked[0] = -x[0]
    other = knn_graph(attacked, 3, cache=tmp_path)
    assert not torch.equal(first.to_dense(), other.to_dense())
    knn_graph(x, 4, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="damaged"):
        knn_graph(x, 3, cache=tmp_path)


def test_cache_is_keyed_by_options_and_by_the_version_of_the_search(tmp_path, monkeypatch):
    x = rows(30, 4)
    knn_graph(x, 3, cache=tmp_path)
    knn_graph(x, 3, cache=tmp_path, include_self=False)
    knn_graph(x.double(), 3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    # How it is searched, and what is shown meanwhile, is no part of what is found.
    knn_graph(x, 3, cache=tmp_path, memory=1 << 12, progress=True)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(knn, "_VERSION", knn._VERSION - 1)
    knn_graph(x, 3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_hash_of_equal_rows_is_equal_wherever_they_stand():
    x = torch.randn(3, 4096).repeat(50, 1)
    x[7, 0] += 1e-6
    first, group = knn._groups(x)
    assert first.tolist() == [0, 1, 2, 7]
    assert group[:9].tolist() == [0, 1, 2, 0, 1, 2, 0, 3, 2]


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: knn_search(torch.randn(5), 1), DataError, "'x'"),
        (lambda: knn_search(torch.ones(5, 2, dtype=torch.long), 1), DataError, "'x'"),
        (lambda: knn_search(torch.randn(5, 2), 6), ConfigError, "'k' expects a whole number from 1 to 5"),
        (lambda: knn_graph(torch.randn(5, 2), 1.5), ConfigError, r"'k' .* \(got 1.5\)"),
        (lambda: knn_search(torch.randn(5, 2), 5, include_self=False), ConfigError, "from 1 to 4"),
        (lambda: knn_search(torch.randn(5, 2), 0), ConfigError, "'k'"),
        (lambda: knn_search(torch.tensor([[1.0], [torch.nan]]), 1), NonFiniteError, "NaN or infinite numbers in row 1"),
        (lambda: knn_search(torch.tensor([[1.0], [torch.inf]]), 1), NonFiniteError, "NaN or infinite numbers in row 1"),
        (lambda: knn_search(torch.tensor([[1.0, 0], [1e20, 1e20]]), 1), NonFiniteError, "row 1 whose squares overflow"),
        (lambda: knn_search(torch.randn(5, 2), 1, engine="annoy"), ConfigError, "'torch' or 'faiss'"),
        (lambda: edge_cosine(knn_graph(torch.randn(5, 2), 1), torch.randn(4, 2)), DataError, "'x'"),
        (lambda: edge_cosine(knn_graph(torch.randn(5, 2), 1), torch.randn(5)), DataError, "'x'"),
        (lambda: edge_cosine(knn_graph(torch.randn(5, 2), 1), torch.ones(5, 2, dtype=torch.long)), DataError, "'x'"),
        (lambda: edge_cosine(Adjacency.from_edge_index(torch.tensor([[0], [1]])), rows(2, 2)), DataError, "'adj'"),
    ],
)
def test_bad_input(call, error, named):
    with pytest.raises(error, match=named):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu():
    x = rows(500, 16)
    assert torch.equal(knn_search(x.cuda(), 5)[1].cpu(), knn_search(x, 5)[1])


def test_a_row_too_short_to_point_anywhere_is_a_row_of_zeros():
    x = torch.rand(6, 3)
    x[2] *= 1e-13
    searched, _ = knn_search(x, 3)
    graph = cosine_graph(x.clone().requires_grad_(), 3)
    assert searched[2].tolist() == [0.0, 0.0, 0.0]
    assert torch.allclose(graph.values().view(6, 3).sort(1).values, searched.sort(1).values, atol=1e-6)
