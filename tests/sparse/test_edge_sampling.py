import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency, degree_weights, sample_edges


@pytest.fixture
def adj():
    # Item 0 is everybody's; the others belong to one user each.
    edge_index = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3], [0, 0, 0, 0, 1, 2, 3, 4]])
    return Adjacency.from_edge_index(edge_index, num_rows=4, num_cols=5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("how", ["uniform", "degree"])
@pytest.mark.parametrize(("keep", "count"), [(0.0, 0), (0.5, 4), (0.7, 5), (1.0, 8)])
def test_keeps_the_floor_of_the_share(adj, how, keep, count):
    kept = sample_edges(adj, keep, how, generator=generator())
    assert kept.dtype == torch.bool
    assert int(kept.sum()) == count
    assert torch.equal(kept, sample_edges(adj, keep, how, generator=generator()))


def test_a_share_times_a_number_is_not_one_short():
    adj = Adjacency.from_edge_index(torch.stack([torch.arange(100)] * 2))
    assert int(sample_edges(adj, 0.29, generator=generator()).sum()) == 29


def test_frequencies_equal_multinomial_without_replacement(adj):
    weights = degree_weights(adj)
    assert torch.allclose(weights, 1 / (adj.degree()[adj.row] * adj.t().degree()[adj.col]).double().sqrt())
    g, draws = generator(), 4000
    ours = sum(sample_edges(adj, 0.5, "degree", generator=g).double() for _ in range(draws)) / draws
    picks = torch.multinomial(weights.expand(draws, -1), 4, generator=g)
    theirs = torch.bincount(picks.flatten(), minlength=8).double() / draws
    assert torch.allclose(ours, theirs, atol=0.04)
    assert ours[adj.col == 0].max() < ours[adj.col > 0].min()
    uniform = sum(sample_edges(adj, 0.5, generator=g).double() for _ in range(draws)) / draws
    assert torch.allclose(uniform, torch.full((8,), 0.5, dtype=torch.double), atol=0.04)


def test_weights_of_ones_own(adj):
    weights = torch.full((8,), 1e-9)
    weights[[1, 6]] = 1.0
    assert sample_edges(adj, 0.25, weights, generator=generator()).nonzero().flatten().tolist() == [1, 6]
    with pytest.raises(DataError, match="'how' expects weights above 0"):
        sample_edges(adj, 0.5, torch.zeros(8))
    for wrong in (torch.ones(7), torch.ones(8, dtype=torch.long), torch.ones(8, device="meta")):
        with pytest.raises(DataError, match="'how'"):
            sample_edges(adj, 0.5, wrong)


def test_more_edges_than_multinomial_takes():
    # 2^24 is its limit; one column, so that the matrix itself is cheap.
    num_edges = (1 << 24) + 7
    rowptr = torch.arange(num_edges + 1, dtype=torch.int32)
    from mmgraph_robust.sparse.structure import Structure

    adj = Adjacency(Structure(rowptr, torch.zeros(num_edges, dtype=torch.int32), 1))
    kept = sample_edges(adj, 0.001, generator=generator())
    assert int(kept.sum()) == int(0.001 * num_edges)
    assert bool(kept[: num_edges // 2].any())
    assert bool(kept[num_edges // 2 :].any())


@pytest.mark.parametrize(("keep", "how"), [(1.5, "uniform"), (-0.1, "uniform"), (0.5, "random")])
def test_bad_input(adj, keep, how):
    with pytest.raises(ConfigError, match="'keep'|'how'"):
        sample_edges(adj, keep, how)
