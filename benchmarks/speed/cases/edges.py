"""What happens on the edges of a row: reductions, softmax, attention."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from benchmarks.speed import traffic
from benchmarks.speed.case import Case, Contestant, Run, Settings, ours
from benchmarks.speed.cases.products import DIM, dense
from benchmarks.speed.graphs import available, user_item
from benchmarks.speed.references import DotAttention
from mmgraph_robust.sparse import Adjacency, attention_product, edge_softmax, sddmm, segment_reduce


class OnEdges(NamedTuple):
    """A pattern, the row of every edge as PyG takes it, and a number or more for every edge."""

    adj: Adjacency
    row: Tensor
    x: Tensor


class Attention(NamedTuple):
    """A pattern, the same for PyG (source, target), and what the three sides bring."""

    adj: Adjacency
    edge_index: Tensor
    query: Tensor
    key: Tensor
    x: Tensor


def segment_cases(settings: Settings) -> list[Case]:
    """Sums of one and of 64 columns, and the largest of one."""
    kinds: tuple[tuple[Literal["sum", "max"], int], ...] = (("sum", 1), ("sum", DIM), ("max", 1))
    return [
        Case(
            operation="segment",
            name=f"{name}, {reduce} of {dim} column{'s' * (dim > 1)}",
            build=partial(_on_edges, name, settings, dim),
            contestants=(
                Contestant("PyG scatter", partial(_scatter, reduce)),
                *ours("segment", settings, partial(_segment, reduce)),
            ),
            traffic=partial(lambda dim, s: {"forward": traffic.segment(s.adj, dim)}, dim),
        )
        for name in available(settings)
        for reduce, dim in kinds
    ]


def softmax_cases(settings: Settings) -> list[Case]:
    """One logit per edge."""
    return [
        Case(
            operation="softmax",
            name=name,
            build=partial(_on_edges, name, settings, 1),
            contestants=(
                Contestant("PyG softmax", lambda s: Run(lambda: softmax(s.x, s.row, num_nodes=s.adj.num_rows), (s.x,))),
                *ours("segment", settings, lambda s, e: Run(lambda: edge_softmax(s.adj, s.x, engine=e), (s.x,))),
            ),
        )
        for name in available(settings)
    ]


def attention_cases(settings: Settings) -> list[Case]:
    """Users attend to their items."""
    return [
        Case(
            operation="attention",
            name=name,
            build=partial(_attention, name, settings),
            contestants=(
                Contestant("PyG MessagePassing and softmax", _pyg_attention),
                Contestant("ours", _own_attention, role="ours"),
            ),
        )
        for name in available(settings)
    ]


def _on_edges(name: str, settings: Settings, dim: int) -> OnEdges:
    adj = user_item(name, settings).to(settings.device)
    x = torch.randn(adj.num_edges, dim, generator=torch.Generator().manual_seed(1)).squeeze(1)
    return OnEdges(adj, adj.row.long(), x.to(settings.device).requires_grad_())


def _scatter(reduce: str, s: OnEdges) -> Run:
    return Run(lambda: scatter(s.x, s.row, 0, dim_size=s.adj.num_rows, reduce=reduce), (s.x,))


def _segment(reduce: Literal["sum", "max"], s: OnEdges, engine: str) -> Run:
    return Run(lambda: segment_reduce(s.adj, s.x, reduce, engine=engine), (s.x,))


def _attention(name: str, settings: Settings) -> Attention:
    adj = user_item(name, settings).to(settings.device)
    adj.t()
    query, key, x = (dense(size, settings, seed) for seed, size in enumerate((adj.num_rows, *[adj.num_cols] * 2)))
    # Logits of a spread near one, as trained ones have.
    query = (query.detach() / DIM**0.5).requires_grad_()
    return Attention(adj, adj.edge_index().flip(0), query, key, x)


def _pyg_attention(s: Attention) -> Run:
    layer, size = DotAttention(), (s.adj.num_cols, s.adj.num_rows)
    return Run(lambda: layer(s.query, s.key, s.x, s.edge_index, size), (s.query, s.key, s.x))


def _own_attention(s: Attention) -> Run:
    return Run(lambda: attention_product(s.adj, sddmm(s.adj, s.query, s.key), s.x)[0], (s.query, s.key, s.x))
