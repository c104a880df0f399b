"""All layers take the same kinds of graph."""

import pytest
import torch
from torch_geometric import EdgeIndex

from mmgraph_robust.errors import DataError
from mmgraph_robust.nn.inputs import as_adjacency
from mmgraph_robust.sparse import Adjacency

PAIRS = torch.tensor([[0, 2, 1], [1, 1, 0]])  # (source, target), 3 sources to 2 targets
EXPECTED = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    "graph",
    [
        PAIRS,
        EdgeIndex(PAIRS, sparse_size=(3, 2)),
        EXPECTED.to_sparse_coo(),
        EXPECTED.to_sparse_csr(),
        EXPECTED.to_sparse_csc(),
        Adjacency.from_edge_index(PAIRS.flip(0), num_rows=2, num_cols=3),
    ],
    ids=["edge_index", "EdgeIndex", "COO", "CSR", "CSC", "Adjacency"],
)
def test_every_kind_of_graph_sends_from_source_to_target(graph):
    adjacency = as_adjacency(graph, num_sources=3, num_targets=2)
    assert torch.equal(adjacency.to_dense(), EXPECTED)


def test_wrong_graphs_are_named():
    with pytest.raises(DataError, match="'edge_index' expects 2 targets x 2 sources"):
        as_adjacency(EXPECTED.to_sparse_csr(), 2, 2)
    with pytest.raises(DataError, match="holds id 2, but 'num_cols' is 2"):
        as_adjacency(PAIRS, 2, 2)
    with pytest.raises(DataError, match="'matrix' expects"):
        as_adjacency("graph", 2, 2)
