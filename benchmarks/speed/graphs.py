"""The graphs that the cases run on: training interactions of two real data sets, and a large made-up one."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.case import Settings
from mmgraph_robust.data import read_mmrec
from mmgraph_robust.data.schema import INTERACTS
from mmgraph_robust.sparse import Adjacency

REAL = ("amazon-baby", "amazon-sports")
POWER_LAW = "power-law"
_POWER_LAW_SIZE = (200_000, 60_000, 2_000_000)
_SMOKE_SIZE = (60, 40, 300)


def available(settings: Settings) -> list[str]:
    """The names of the graphs at hand; says which are not."""
    names = [name for name in REAL if settings.smoke or _at_hand(name, settings.data)]
    return [*names, POWER_LAW]


@cache
def _at_hand(name: str, data: Path) -> bool:
    found = (data / name / f"{name}.inter").is_file()
    if not found:
        print(f"{name} is skipped: no {data / name}/{name}.inter (--data names another folder)", file=sys.stderr)
    return found


@cache
def user_item(name: str, settings: Settings) -> Adjacency:
    """Users by items, without values, on the CPU."""
    if settings.smoke:
        return power_law(*_SMOKE_SIZE)
    if name == POWER_LAW:
        return power_law(*_POWER_LAW_SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # users without training interactions are of no concern here
        data = read_mmrec(settings.data / name)
    store = data[INTERACTS]
    edge_index = store.edge_index[:, store.train_mask]
    return Adjacency.from_edge_index(edge_index, num_rows=data["user"].num_nodes, num_cols=data["item"].num_nodes)


def power_law(num_rows: int, num_cols: int, num_edges: int, seed: int = 0) -> Adjacency:
    r"""Distinct pairs, rows drawn in proportion to :math:`rank^{-1/2}` and columns to :math:`rank^{-4/5}`."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.empty(0, dtype=torch.long)
    while key.numel() < num_edges:
        row = _draw(num_rows, 0.5, num_edges, generator)
        col = _draw(num_cols, 0.8, num_edges, generator)
        key = torch.unique(torch.cat([key, row * num_cols + col]))
    key = key[torch.randperm(key.numel(), generator=generator)[:num_edges]]
    # Ranks are shuffled: nothing may depend on popular nodes standing side by side.
    row = torch.randperm(num_rows, generator=generator)[key // num_cols]
    col = torch.randperm(num_cols, generator=generator)[key % num_cols]
    return Adjacency.from_edge_index(torch.stack([row, col]), num_rows=num_rows, num_cols=num_cols)


def _draw(size: int, exponent: float, count: int, generator: torch.Generator) -> Tensor:
    share = torch.arange(1, size + 1, dtype=torch.float64).pow(-exponent).cumsum(0)
    point = torch.rand(count, dtype=torch.float64, generator=generator) * share[-1]
    return torch.searchsorted(share, point, right=True).clamp(max=size - 1)
