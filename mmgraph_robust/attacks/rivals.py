"""The items that known positives compete with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.metrics import rank_items
from mmgraph_robust.sparse import Adjacency, sddmm

_FIRST_INTERVAL = 4


class Rivals:
    """The best-ranked items of some users, scored anew in every call.

    Ranking the whole catalogue costs more than a gradient, so that is done in ever longer intervals: the first steps
    of an attack change a list most. Memory is bounded by users times `size`.

    Args:
        users: ``[n]`` user ids.
        seen: ``[num_users, num_items]`` items to leave out.
        size: Number of items kept per user; where it is the whole catalogue, nothing is left out.
        longest: Calls between two rankings of the whole catalogue, at most; 1 ranks it in every call.
    """

    def __init__(self, users: Tensor, seen: Adjacency, size: int, longest: int = 32) -> None:
        self.users = users
        self.seen = seen
        self.size = min(size, seen.num_cols)
        self.longest = longest
        self._lists = users.new_zeros(0, 0)
        self._edges: Adjacency | None
        self._age: int
        self._interval: int
        self._place: tuple[Tensor, Tensor] = (users, users)
        self.forget()

    def __call__(self, user: Tensor, item: Tensor, renew: bool = False) -> tuple[Tensor, Tensor]:
        """The rivals of each user and their scores now, in no order.

        Args:
            user: ``[num_users, dim]`` user vectors.
            item: ``[num_items, dim]`` item vectors.
            renew: Whether the catalogue is ranked again in any case.

        Shapes:
            - **output:** ids ``[n, size]``, -1 for padding, and scores ``[n, size]``, ``-inf`` there
        """
        if self._edges is None or renew or self._age >= self._interval:
            if renew:
                self._interval = min(_FIRST_INTERVAL, self.longest)
            elif self._edges is not None:
                self._interval = min(2 * self._interval, self.longest)
            self._renew(user.detach(), item.detach())
        self._age += 1
        scores = sddmm(self._edges, F.embedding(self.users, user), item)  # type: ignore[arg-type]
        dense = scores.new_full(self._lists.shape, -torch.inf).index_put(self._place, scores)
        return self._lists, dense

    def forget(self) -> None:
        """The next call ranks the whole catalogue, as the first one did."""
        self._edges = None
        self._age, self._interval = 0, min(_FIRST_INTERVAL, self.longest)

    def _renew(self, user: Tensor, item: Tensor) -> None:
        lists = rank_items(user, item, self.users, self.seen, self.size)
        row, column = (lists >= 0).nonzero(as_tuple=True)
        self._lists = lists
        self._edges = Adjacency.from_edge_index(
            torch.stack([row, lists[row, column]]), num_rows=lists.size(0), num_cols=item.size(0)
        )
        self._place = (row[self._edges.order], column[self._edges.order])
        self._age = 0
