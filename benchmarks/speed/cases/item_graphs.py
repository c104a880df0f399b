"""Graphs of nearest neighbours, and LATTICE's refresh of them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.case import Case, Contestant, Run, Settings, relative_error
from benchmarks.speed.cases.products import DIM, dense
from benchmarks.speed.references import dense_lattice, dense_neighbours
from mmgraph_robust.nn import LatentItemGraph
from mmgraph_robust.sparse import knn_graph, spmm
from mmgraph_robust.typing import WITH_FAISS
from mmgraph_robust.utils import chunks, matmul

K = 10
BABY_ITEMS, CLOTHING_ITEMS = 7_050, 23_033
VISUAL, TEXTUAL = 4096, 384
MILLION = 1_000_000
_WHOLE_BYTES = 3 * 10**9
_BLOCK_BYTES = 1 << 27
# From here on one run takes tens of seconds.
_LARGE = 10_000


class Lattice(NamedTuple):
    """A module and all that it reads."""

    module: LatentItemGraph
    features: dict[str, Tensor]
    h: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What LATTICE trains here."""
        return tuple(self.module.parameters())


def knn_cases(settings: Settings) -> list[Case]:
    """The item counts of the published Baby and Clothing sets; a million rows where asked for."""
    sizes = [(60, 16), (90, 16)] if settings.smoke else [(BABY_ITEMS, VISUAL), (CLOTHING_ITEMS, VISUAL)]
    cases = [
        Case(
            operation="knn",
            name=f"{label} x {VISUAL:,}",
            build=partial(dense, size, settings, 0, dim, False),
            contestants=_knn_contestants(settings, size),
            error=_sorted_error,
        )
        for label, (size, dim) in zip((f"{BABY_ITEMS:,}", f"{CLOTHING_ITEMS:,}"), sizes, strict=True)
    ]
    if settings.million:
        prepare = _faiss_knn if settings.million == "faiss" else partial(_own_knn, "torch", True)
        contestant = Contestant(f"ours ({settings.million})", prepare, role="ours", most_repeats=0)
        build = partial(dense, 500 if settings.smoke else MILLION, settings, 0, DIM, False)
        cases.append(Case("knn", f"{MILLION:,} x {DIM}", build, (contestant,)))
    return cases


def lattice_cases(settings: Settings) -> list[Case]:
    """Amazon-baby's size, visual and textual features; the graph of the features as they came is kept."""
    return [
        Case(
            operation="lattice",
            name=f"{BABY_ITEMS:,} items, {VISUAL:,} and {TEXTUAL}",
            build=partial(_lattice, settings),
            contestants=(
                Contestant("dense similarity, scatter, diagonal products", _dense_refresh, most_repeats=1),
                Contestant("ours", _own_refresh, role="ours"),
            ),
            # Neighbours of equal cosine up to rounding may be chosen differently; one such row in all is no mistake.
            tolerance=1e-2,
        )
    ]


def _knn_contestants(settings: Settings, size: int) -> tuple[Contestant, ...]:
    repeats = 3 if size >= _LARGE else None
    rows = max(1, _BLOCK_BYTES // (4 * size))
    contestants = []
    if 4 * size**2 < _WHOLE_BYTES:
        contestants = [
            Contestant("similarity, then torch.topk", _topk, most_repeats=repeats),
            Contestant("similarity alone, whole", _whole, role="bound", most_repeats=repeats),
        ]
    blocks = f"similarity alone, {min(rows, size):,} rows at a time"
    contestants += [
        Contestant(f"{blocks}, torch.mm", partial(_blocks, rows), role="bound", most_repeats=repeats),
        Contestant(f"{blocks}, matmul of ours", partial(_fast_blocks, rows), role="bound", most_repeats=repeats),
        Contestant("ours", partial(_own_knn, "torch", False), role="ours", most_repeats=repeats),
    ]
    if WITH_FAISS and settings.device == "cpu":
        contestants.append(Contestant("ours (faiss)", _faiss_knn, role="engine", most_repeats=repeats))
    return tuple(contestants)


def _sorted_error(result: Tensor, expected: Tensor) -> float:
    """Edges of a graph stand in the order of their columns, not of their cosines."""
    return relative_error(result.sort(dim=1).values, expected.sort(dim=1).values)


def _own_knn(engine: str, progress: bool, x: Tensor) -> Run:
    return Run(lambda: knn_graph(x, K, engine=engine, progress=progress).values().view(-1, K))  # type: ignore[arg-type]


def _faiss_knn(x: Tensor) -> Run:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return _own_knn("faiss", False, x)


def _topk(x: Tensor) -> Run:
    def forward() -> Tensor:
        unit = F.normalize(x, dim=1)
        return torch.topk(unit @ unit.t(), K).values

    return Run(forward)


def _whole(x: Tensor) -> Run:
    unit = F.normalize(x, dim=1)
    return Run(lambda: unit @ unit.t())


def _fast_blocks(rows: int, x: Tensor) -> Run:
    unit = F.normalize(x, dim=1)

    def forward() -> Tensor:
        block = x.new_empty(0)
        for a, b in chunks(x.size(0), rows):
            block = matmul(unit[a:b], unit.t())
        return block

    return Run(forward)


def _blocks(rows: int, x: Tensor) -> Run:
    unit = F.normalize(x, dim=1)

    def forward() -> Tensor:
        block = x.new_empty(min(rows, x.size(0)), x.size(0))
        for a, b in chunks(x.size(0), rows):
            torch.mm(unit[a:b], unit.t(), out=block[: b - a])
        return block

    return Run(forward)


def _lattice(settings: Settings) -> Lattice:
    items, widths = (60, (16, 8)) if settings.smoke else (BABY_ITEMS, (VISUAL, TEXTUAL))
    names = ("visual", "textual")
    features = {
        n: dense(items, settings, seed, d, False) for seed, (n, d) in enumerate(zip(names, widths, strict=True))
    }
    module = LatentItemGraph(dict(zip(names, widths, strict=True)), hidden_channels=DIM, k=K)
    module.reset_parameters(torch.Generator().manual_seed(0))
    return Lattice(module.to(settings.device), features, dense(items, settings, 2, grad=False))


def _own_refresh(s: Lattice) -> Run:
    original = s.module.original(s.features)
    return Run(lambda: spmm(s.module(s.features, original), s.h), s.leaves)


def _dense_refresh(s: Lattice) -> Run:
    original = {}
    for name, x in s.features.items():
        graph = dense_neighbours(x, K)
        scale = graph.sum(1).pow(-0.5)
        original[name] = scale[:, None] * graph * scale
    return Run(lambda: dense_lattice(s.module, s.features, original) @ s.h, s.leaves)
