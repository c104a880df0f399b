"""Products of a sparse matrix with dense ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.speed import traffic
from benchmarks.speed.case import Case, Contestant, Run, Settings, Traffic, ours
from benchmarks.speed.graphs import available, user_item
from benchmarks.speed.references import WeightedSum
from mmgraph_robust.sparse import Adjacency, sddmm, spmm
from mmgraph_robust.typing import WITH_TORCH_SPARSE

DIM = 64


@dataclass(frozen=True)
class Product:
    """A matrix with its edges in row order, which is the order that every contestant gets them in."""

    adj: Adjacency
    edge_index: Tensor
    value: Tensor
    x: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gradients are asked for."""
        return tuple(leaf for leaf in (self.x, self.value) if leaf.requires_grad)


def spmm_cases(settings: Settings) -> list[Case]:
    """Constant values one way and both ways, and values that are learned."""
    cases = []
    for name in available(settings):
        for shape, square, learned in (
            ("users x items", False, False),
            ("both ways, square", True, False),
            ("users x items, learned values", False, True),
        ):
            case = Case(
                operation="spmm",
                name=f"{name}, {shape}",
                build=partial(_product, name, settings, square, learned),
                contestants=_spmm_contestants(settings),
                traffic=partial(_spmm_traffic, learned),
            )
            cases.append(case)
    return cases


def sddmm_cases(settings: Settings) -> list[Case]:
    """Users and items, on the edges between them."""
    return [
        Case(
            operation="sddmm",
            name=f"{name}, users x items",
            build=partial(_sides, name, settings),
            contestants=(
                Contestant("gather, multiply, sum", _gather_dot),
                *ours("dot", settings, lambda s, e: Run(lambda: sddmm(s[0], s[1], s[2], engine=e), s[1:3])),
            ),
            traffic=lambda sides: {"forward": traffic.dot(sides[0], DIM)},
        )
        for name in available(settings)
    ]


def dense(num_rows: int, settings: Settings, seed: int, dim: int = DIM, grad: bool = True) -> Tensor:
    """Normal features, equal on every device."""
    x = torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed))
    return x.to(settings.device).requires_grad_(grad)


def _product(name: str, settings: Settings, square: bool, learned: bool) -> Product:
    graph = user_item(name, settings)
    graph = (graph.bipartite() if square else graph).normalize("sym").to(settings.device)
    value = graph.values().requires_grad_(learned)
    adj = graph.with_value(value)
    adj.t()  # compiled ahead, as it is in a model
    return Product(adj, adj.edge_index(), value, dense(adj.num_cols, settings, seed=1))


def _spmm_contestants(settings: Settings) -> tuple[Contestant, ...]:
    return (
        Contestant("torch.sparse.mm, COO", _coo),
        Contestant("torch.sparse.mm, CSR", _csr),
        Contestant("PyG MessagePassing", _message_passing),
        *([Contestant("torch_sparse.SparseTensor", _sparse_tensor)] if WITH_TORCH_SPARSE else []),
        *ours("matmul", settings, lambda p, e: Run(lambda: spmm(p.adj, p.x, engine=e), p.leaves)),
    )


def _spmm_traffic(learned: bool, product: Product) -> dict[str, Traffic]:
    result = {"forward": traffic.matmul(product.adj, DIM)}
    if not learned:
        result["backward"] = traffic.matmul(product.adj.t(), DIM)
    return result


def _coo(p: Product) -> Run:
    def matrix() -> Tensor:
        return torch.sparse_coo_tensor(p.edge_index, p.value, p.adj.shape, check_invariants=False, is_coalesced=True)

    constant = None if p.value.requires_grad else matrix()
    return Run(lambda: torch.sparse.mm(matrix() if constant is None else constant, p.x), p.leaves)


def _csr(p: Product) -> Run:
    rowptr, col = p.adj.long_pointers

    def matrix() -> Tensor:
        return torch.sparse_csr_tensor(rowptr, col, p.value, p.adj.shape, check_invariants=False)

    constant = None if p.value.requires_grad else matrix()
    return Run(lambda: torch.sparse.mm(matrix() if constant is None else constant, p.x), p.leaves)


def _message_passing(p: Product) -> Run:
    layer, edge_index = WeightedSum(), p.edge_index.flip(0)
    size = (p.adj.num_cols, p.adj.num_rows)
    return Run(lambda: layer(p.x, edge_index, p.value, size), p.leaves)


def _sparse_tensor(p: Product) -> Run:
    from torch_sparse import SparseTensor

    row, col = p.edge_index
    matrix = SparseTensor(row=row, col=col, value=p.value, sparse_sizes=p.adj.shape, is_sorted=True)
    if p.value.requires_grad:
        return Run(lambda: matrix.set_value(p.value, layout="coo") @ p.x, p.leaves)
    return Run(lambda: matrix @ p.x, p.leaves)


def _sides(name: str, settings: Settings) -> tuple[Adjacency, Tensor, Tensor, Tensor]:
    adj = user_item(name, settings).to(settings.device)
    adj.t()
    left, right = dense(adj.num_rows, settings, seed=1), dense(adj.num_cols, settings, seed=2)
    return adj, left, right, adj.edge_index()


def _gather_dot(sides: tuple[Adjacency, Tensor, Tensor, Tensor]) -> Run:
    _, left, right, (row, col) = sides
    return Run(lambda: (left[row] * right[col]).sum(-1), (left, right))
