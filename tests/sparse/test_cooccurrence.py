import pytest
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse import Adjacency, cooccurrence_graph


def random_matrix(num_rows, num_cols, num_edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    key = torch.randperm(num_rows * num_cols, generator=generator)[:num_edges]
    edge_index = torch.stack([key // num_cols, key % num_cols])
    return Adjacency.from_edge_index(edge_index, num_rows=num_rows, num_cols=num_cols)


def by_loops(adj, k):
    dense = adj.to_dense()
    edges = {}
    for row in range(adj.num_rows):
        counts = [(-int((dense[row] * dense[other]).sum()), other) for other in range(adj.num_rows) if other != row]
        for count, other in sorted(pair for pair in counts if pair[0] < 0)[:k]:
            edges[row, other] = -count
    return edges


def listed(graph):
    pairs = [tuple(pair) for pair in graph.edge_index().t().tolist()]
    return dict(zip(pairs, graph.values().int().tolist(), strict=True))


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("memory", [1, 2000, 1 << 20])
def test_equals_loops_whatever_the_blocks(k, memory):
    adj = random_matrix(20, 15, 70)
    graph = cooccurrence_graph(adj, k, memory=memory)
    assert graph.shape == (20, 20)
    assert listed(graph) == by_loops(adj, k)


def test_empty_rows_and_matrices():
    adj = Adjacency.from_edge_index(torch.tensor([[1, 1, 3], [0, 1, 1]]), num_rows=5, num_cols=2)
    assert listed(cooccurrence_graph(adj, 4)) == {(1, 3): 1, (3, 1): 1}
    for rows in (0, 3):
        empty = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), num_rows=rows, num_cols=2)
        assert cooccurrence_graph(empty, 4).num_edges == 0


def test_duplicate_edges_count_each_and_values_play_no_part():
    pairs = torch.tensor([[0, 0, 1], [0, 0, 0]])
    adj = Adjacency.from_edge_index(pairs, num_rows=2, num_cols=1, values=torch.tensor([0.0, 3.0, 5.0]))
    assert listed(cooccurrence_graph(adj, 1)) == {(0, 1): 2, (1, 0): 2}


def test_k_is_positive():
    for k in (0, 1.5):
        with pytest.raises(ConfigError, match=rf"'k' expects a whole number >= 1 \(got {k}\)"):
            cooccurrence_graph(random_matrix(3, 3, 4), k)
