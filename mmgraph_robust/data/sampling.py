"""Triples of a user, an item of hers, and an item that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.errors import ConfigError, DataError


@dataclass(frozen=True)
class Batch:
    """Training triples; never changed in place.

    Shapes:
        - **user**, **positive**, **negative**: ``[batch_size]`` int64
    """

    user: Tensor
    positive: Tensor
    negative: Tensor

    def __len__(self) -> int:
        return self.user.numel()

    @property
    def ids(self) -> tuple[Tensor, Tensor, Tensor]:
        """Users, positive and negative items."""
        return self.user, self.positive, self.negative


class NegativeSampler:
    """Draws, for each user, an item that she has no training interaction with, uniformly and without a Python loop.

    Candidates are the items that occur in training. Rejected draws are drawn again until none is left, so a returned
    negative is never a training positive.

    Args:
        graph: The training graph.

    Raises:
        DataError: If there are no interactions, or a user has interacted with every candidate.
    """

    def __init__(self, graph: Graph) -> None:
        self.num_items = graph.num_items
        self.candidates = graph.item_degree.nonzero().flatten().cpu()
        user, item = graph.interactions.edge_index().cpu()
        if user.numel() == 0:
            raise DataError("the training split is empty: make one with 'random_split'")
        self._keys = torch.unique(user * self.num_items + item)  # sorted
        full = torch.bincount(self._keys // max(self.num_items, 1), minlength=1) >= self.candidates.numel()
        if bool(full.any()):
            users = full.nonzero().flatten()[:5].tolist()
            raise DataError(
                f"users {users} interacted with all {self.candidates.numel()} items of the training split: "
                "no negative item can be drawn for them; remove these users or add items"
            )

    def is_positive(self, user: Tensor, item: Tensor) -> Tensor:
        """``[n]`` whether ``(user, item)`` is a training interaction."""
        keys = user * self.num_items + item
        place = torch.searchsorted(self._keys, keys).clamp(max=self._keys.numel() - 1)
        return self._keys[place] == keys

    def sample(self, user: Tensor, generator: torch.Generator) -> Tensor:
        """``[n]`` one negative item for each entry of `user` ``[n]``."""
        item = self._draw(user.numel(), generator)
        open_ = self.is_positive(user, item).nonzero().flatten()
        while open_.numel() > 0:
            item[open_] = self._draw(open_.numel(), generator)
            open_ = open_[self.is_positive(user[open_], item[open_])]
        return item

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.candidates[torch.randint(self.candidates.numel(), (count,), generator=generator)]


class TripleLoader:
    """Batches of all training interactions in random order, each with one sampled negative; the last may be short.

    Args:
        graph: The training graph.
        batch_size: Triples per batch.

    Raises:
        ConfigError: If batches are to be empty.
    """

    def __init__(self, graph: Graph, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"'TripleLoader' expects batch_size >= 1 (got {batch_size})")
        self.batch_size = batch_size
        self.device = graph.device
        self.sampler = NegativeSampler(graph)
        self.user, self.positive = graph.interactions.edge_index().cpu()

    def __len__(self) -> int:
        return -(-self.user.numel() // self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """One pass over the training interactions, all its randomness from `generator`."""
        order = torch.randperm(self.user.numel(), generator=generator)
        negative = self.sampler.sample(self.user[order], generator)
        for start in range(0, order.numel(), self.batch_size):
            part = order[start : start + self.batch_size]
            yield Batch(
                self.user[part].to(self.device),
                self.positive[part].to(self.device),
                negative[start : start + self.batch_size].to(self.device),
            )
