"""What is done to the structure itself: compiling it, and dropping edges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from benchmarks.speed.case import Case, Contestant, Role, Run, Settings
from benchmarks.speed.graphs import POWER_LAW, available, user_item
from mmgraph_robust.sparse import Adjacency, degree_weights, sample_edges

KEEP = 0.2


def sampling_cases(settings: Settings) -> list[Case]:
    """All edges alike, and FREEDOM's degree-sensitive pruning."""

    def case(how: Literal["uniform", "degree"], *contestants: Contestant) -> Case:
        return Case(
            operation="sampling",
            name=f"{POWER_LAW}, {how}",
            build=lambda: user_item(POWER_LAW, settings).to(settings.device),
            contestants=contestants,
            tolerance=0.0,
            error=_count_error,
        )

    return [
        case(
            "uniform",
            Contestant("torch.multinomial", lambda adj: _multinomial(torch.ones(adj.num_edges, device=adj.device))),
            Contestant("torch.randperm", _randperm),
            Contestant("ours", lambda adj: Run(lambda: sample_edges(adj, KEEP)), role="ours"),
        ),
        case(
            "degree",
            Contestant("torch.multinomial, weights ready", lambda adj: _multinomial(degree_weights(adj))),
            Contestant("ours", _own_degree, role="ours"),
            Contestant("ours, weights ready", _own_weights, role="engine"),
        ),
    ]


def compile_cases(settings: Settings) -> list[Case]:
    """From edges in any order to sorted rows."""
    scipy = find_spec("scipy") is not None and settings.device == "cpu"
    return [
        Case(
            operation="compile",
            name=name,
            build=partial(_shuffled, name, settings),
            contestants=(
                _compiler("torch COO, coalesced, to CSR", _torch_csr),
                *([_compiler("SciPy COO to CSR, sorted", _scipy_csr)] if scipy else []),
                _compiler("ours", lambda edge_index, r, c: _own(edge_index, r, c).col, "ours"),
                _compiler("ours, and the transpose", _own_both, "engine"),
            ),
            tolerance=0.0,
        )
        for name in available(settings)
    ]


def _count_error(result: Tensor, expected: Tensor) -> float:
    """Draws differ; how many edges stay does not."""
    return float(result.shape != expected.shape) + abs(int(result.sum()) - int(expected.sum()))


def _kept(num_edges: int, index: Tensor) -> Tensor:
    mask = torch.zeros(num_edges, dtype=torch.bool, device=index.device)
    mask[index] = True
    return mask


def _multinomial(weight: Tensor) -> Run:
    count = int(KEEP * weight.numel() + 1e-9)
    return Run(lambda: _kept(weight.numel(), torch.multinomial(weight, count, replacement=False)))


def _randperm(adj: Adjacency) -> Run:
    count = int(KEEP * adj.num_edges + 1e-9)
    return Run(lambda: _kept(adj.num_edges, torch.randperm(adj.num_edges, device=adj.device)[:count]))


def _own_degree(adj: Adjacency) -> Run:
    adj.t()
    return Run(lambda: sample_edges(adj, KEEP, "degree"))


def _own_weights(adj: Adjacency) -> Run:
    weight = degree_weights(adj)
    return Run(lambda: sample_edges(adj, KEEP, weight))


def _shuffled(name: str, settings: Settings) -> tuple[Tensor, int, int]:
    adj = user_item(name, settings)
    order = torch.randperm(adj.num_edges, generator=torch.Generator().manual_seed(0))
    return adj.edge_index()[:, order].to(settings.device), adj.num_rows, adj.num_cols


def _compiler(name: str, columns: Callable[[Tensor, int, int], Tensor], role: Role = "reference") -> Contestant:
    return Contestant(name, lambda shared: Run(lambda: columns(*shared)), role)


def _own(edge_index: Tensor, num_rows: int, num_cols: int) -> Adjacency:
    return Adjacency.from_edge_index(edge_index, num_rows=num_rows, num_cols=num_cols)


def _own_both(edge_index: Tensor, num_rows: int, num_cols: int) -> Tensor:
    adj = _own(edge_index, num_rows, num_cols)
    adj.t()
    return adj.col


def _torch_csr(edge_index: Tensor, num_rows: int, num_cols: int) -> Tensor:
    ones = torch.ones(edge_index.size(1), device=edge_index.device)
    matrix = torch.sparse_coo_tensor(edge_index, ones, (num_rows, num_cols), check_invariants=False)
    return matrix.coalesce().to_sparse_csr().col_indices()


def _scipy_csr(edge_index: Tensor, num_rows: int, num_cols: int) -> Tensor:
    import numpy as np
    from scipy.sparse import coo_matrix

    row, col = edge_index.numpy()
    matrix = coo_matrix((np.ones(row.size, dtype=np.float32), (row, col)), shape=(num_rows, num_cols)).tocsr()
    matrix.sort_indices()
    return torch.from_numpy(matrix.indices)
