"""What an attacker wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import ITEM, interactions
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.metrics import exposure, hits, rank_items, ranking_metrics
from mmgraph_robust.models import Embeddings
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.utils import child_generator

_MOST_PAIRS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Base of all goals: which (user, item) pairs an attack pushes, in which direction, and how success is measured.

    Args:
        users: Ids of the users that matter (default: all).
        k: Length of the lists that the goal is judged by.
    """

    users: Sequence[int] | None = None
    k: int = 20
    rises: ClassVar[bool] = False
    """Whether the attacker wants the measure to rise."""
    measure: ClassVar[str] = ""
    """Name of the measure."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"'{type(self).__name__}' expects k >= 1 (got {self.k})")
        for name in ("users", "items"):
            ids = getattr(self, name, None)
            if ids is None:
                continue
            object.__setattr__(self, name, tuple(int(i) for i in ids))
            if not len(ids) or len(set(ids)) != len(ids):
                raise ConfigError(f"'{type(self).__name__}' expects different {name}, at least one (got {list(ids)})")

    def pairs(self, known: Tensor, seen: Adjacency, generator: torch.Generator) -> Tensor:
        """``[2, n]`` the (user, item) pairs whose margins the attack moves.

        Args:
            known: ``[2, m]`` the positives that the attacker knows.
            seen: ``[num_users, num_items]`` interactions that are never recommended again.
            generator: Draws some of the pairs where there are more than memory is meant for.
        """
        raise NotImplementedError

    def per_user(self, embeddings: Embeddings, known: Tensor, seen: Adjacency) -> tuple[Tensor, Tensor]:
        """The measure for each user that it is defined for.

        Args:
            embeddings: The model's embeddings.
            known: See :meth:`pairs`.
            seen: See :meth:`pairs`.

        Shapes:
            - **output:** user ids ``[n]`` and values ``[n]``
        """
        raise NotImplementedError

    def check_ids(self, num_users: int, num_items: int) -> None:
        """Sees that the ids are those of a data set.

        Args:
            num_users: Number of its users.
            num_items: Number of its items.

        Raises:
            ConfigError: If some are not.
        """
        check_ids("users", self.users or (), num_users)

    @property
    def measure_name(self) -> str:
        """The measure with its cut-off, such as ``"recall@20"``."""
        return f"{self.measure}@{self.k}"

    def describe(self) -> dict[str, Any]:
        """The goal as plain JSON values."""
        return {"name": type(self).__name__} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }

    def _segment(self, num_users: int, device: torch.device) -> Tensor:
        if self.users is None:
            return torch.arange(num_users, device=device)
        check_ids("users", self.users, num_users)
        return torch.tensor(self.users, device=device)


@dataclass(frozen=True, kw_only=True)
class Untargeted(Goal):
    """Ruin the ranking: the known positives are to fall out of their users' lists; judged by recall.

    Args:
        users: Ids of the users that matter (default: all).
        k: Length of the lists that the goal is judged by.
    """

    measure: ClassVar[str] = "recall"

    def pairs(self, known: Tensor, seen: Adjacency, generator: torch.Generator) -> Tensor:
        """The known positives of the segment.

        Raises:
            DataError: If there are none.
        """
        pairs = known
        if self.users is not None:
            pairs = known[:, torch.isin(known[0], self._segment(seen.num_rows, known.device))]
        if pairs.size(1) == 0:
            raise DataError("the attacker knows no positives of these users: choose others, or other 'labels'")
        return pairs

    def per_user(self, embeddings: Embeddings, known: Tensor, seen: Adjacency) -> tuple[Tensor, Tensor]:
        """Recall of the known positives."""
        pairs = self.pairs(known, seen, torch.Generator())
        relevant = Adjacency.from_edge_index(pairs, num_rows=seen.num_rows, num_cols=seen.num_cols)
        number = relevant.degree()
        users = number.nonzero().flatten()
        user, item = embeddings.check_finite().concatenated()
        lists = rank_items(user, item, users, seen, self.k)
        metric = ranking_metrics(hits(lists, users, relevant), number[users], [self.k], ["recall"])
        return users, metric[self.measure_name]


@dataclass(frozen=True)
class Hide(Goal):
    """Keep given items out of the users' lists; judged by their exposure.

    Args:
        items: Ids of the target items.
        users: Ids of the users that matter (default: all).
        k: Length of the lists that the goal is judged by.
    """

    items: Sequence[int]
    measure: ClassVar[str] = "exposure"

    def pairs(self, known: Tensor, seen: Adjacency, generator: torch.Generator) -> Tensor:
        """Every user of the segment with every target that she has not had, or a sample of at most 131,072 of them."""
        users, items = self._segment(seen.num_rows, seen.device), self._targets(seen)
        count = users.numel() * items.numel()
        if count > _MOST_PAIRS:
            place = torch.randint(count, (_MOST_PAIRS,), generator=generator).unique().to(seen.device)
        else:
            place = torch.arange(count, device=seen.device)
        pairs = torch.stack([users[place // items.numel()], items[place % items.numel()]])
        own = torch.isin(seen.col.long(), items)
        had = seen.row[own].long() * seen.num_cols + seen.col[own].long()
        pairs = pairs[:, ~torch.isin(pairs[0] * seen.num_cols + pairs[1], had)]
        if pairs.size(1) == 0:
            raise DataError("every user of the segment has had every target item: nothing can be shown or hidden")
        return pairs

    def per_user(self, embeddings: Embeddings, known: Tensor, seen: Adjacency) -> tuple[Tensor, Tensor]:
        """Exposure of the targets."""
        users = self._segment(seen.num_rows, seen.device)
        user, item = embeddings.check_finite().concatenated()
        lists = rank_items(user, item, users, seen, self.k)
        return users, exposure(lists, self._targets(seen))

    def check_ids(self, num_users: int, num_items: int) -> None:
        """Sees that users and target items are those of a data set."""
        super().check_ids(num_users, num_items)
        check_ids("items", self.items, num_items)

    def _targets(self, seen: Adjacency) -> Tensor:
        check_ids("items", self.items, seen.num_cols)
        return torch.tensor(self.items, device=seen.device)


@dataclass(frozen=True)
class Promote(Hide):
    """Bring given items into the users' lists; judged by their exposure.

    Args:
        items: Ids of the target items.
        users: Ids of the users that matter (default: all).
        k: Length of the lists that the goal is judged by.
    """

    rises: ClassVar[bool] = True


def pick_items(
    data: HeteroData, count: int, among: Literal["cold", "unpopular", "popular", "all"] = "cold", seed: int = 0
) -> list[int]:
    """Draws target items, such as the part of the catalogue that an attacker owns.

    Args:
        data: The data set.
        count: How many.
        among: ``"cold"`` (the fewest training interactions, ties in random order), ``"unpopular"`` or ``"popular"`` (a
            random draw from the lower or upper half by training interactions), or ``"all"``.
        seed: Seed of the draw.

    Raises:
        ConfigError: If there are not so many, or `among` is none of the known.
    """
    number = int(data[ITEM].num_nodes)
    degree = torch.bincount(interactions(data, "train")[1].cpu(), minlength=number)
    shuffled = torch.randperm(number, generator=child_generator(seed, "pick_items"))
    by_degree = shuffled[degree[shuffled].argsort(stable=True)]
    half = number // 2
    pools = {
        "cold": by_degree, "all": shuffled,
        "unpopular": shuffled[torch.isin(shuffled, by_degree[:half])],
        "popular": shuffled[torch.isin(shuffled, by_degree[number - half :])],
    }  # fmt: skip
    if among not in pools:
        raise ConfigError(f"'among' expects one of {sorted(pools)} (got '{among}')")
    if not 1 <= count <= pools[among].numel():
        raise ConfigError(f"'count' expects 1 to {pools[among].numel()} items among '{among}' (got {count})")
    return sorted(pools[among][:count].tolist())


def check_ids(name: str, ids: Sequence[int], number: int) -> None:
    """Sees that ids are those of `number` users or items.

    Raises:
        ConfigError: If some are not.
    """
    outside = [i for i in ids if not 0 <= i < number]
    if outside:
        raise ConfigError(f"'{name}' expects ids from 0 to {number - 1} (got {outside[:5]})")
