import torch

from mmgraph_robust.sparse import Adjacency, spmm
from mmgraph_robust.sparse.slices import cut_rows


def test_cut_rows_is_the_dense_cut_both_ways():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randint(9, (40,), generator=generator), torch.randint(12, (40,), generator=generator)])
    pairs = pairs[:, (pairs[0] != 4) & (pairs[1] != 7)]
    for values in (None, torch.rand(pairs.size(1), generator=generator)):
        adj = Adjacency.from_edge_index(pairs, num_rows=9, num_cols=12, values=values)
        rows = torch.tensor([1, 4, 5, 8])
        part, columns = cut_rows(adj, rows)
        dense = adj.to_dense()[rows]
        assert columns.tolist() == dense.any(0).nonzero().squeeze(1).tolist()
        assert torch.equal(part.to_dense(), dense[:, columns])
        # The transpose, and with it the backward pass, rests on an order that was not sorted for.
        assert torch.equal(part.t().to_dense(), dense[:, columns].t())
        assert torch.equal(part.structure.permutation, torch.argsort(part.col, stable=True))
        x = torch.rand(columns.numel(), 3, requires_grad=True)
        spmm(part, x).sum().backward()
        assert torch.allclose(x.grad, dense[:, columns].sum(0)[:, None].expand(-1, 3))
        _, columns = cut_rows(adj, rows, keep=torch.tensor([7]))
        assert 7 in columns.tolist()
    part, columns = cut_rows(adj, torch.tensor([4]))
    assert part.shape == (1, 0)
    assert columns.numel() == 0
