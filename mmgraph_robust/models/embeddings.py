"""What every model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.errors import DataError, NonFiniteError, unknown_name


@dataclass(frozen=True)
class Embeddings:
    r"""User and item vectors per channel, whose dot products sum to the score:
    :math:`s(u, i) = \sum_c \langle user_c[u], item_c[i] \rangle`.

    A channel is ``"id"`` or a modality. Score margins per modality, balancing, leave-one-modality-out and retrieval
    from one index (concatenated channels) all follow from this sum.

    Attributes:
        user: ``[num_users, dim_c]`` per channel.
        item: ``[num_items, dim_c]`` per channel.
        extra: What the model's own loss, its :meth:`~mmgraph_robust.models.Recommender.item_encoder` and its
            :meth:`~mmgraph_robust.models.Recommender.row_encoder` read beside them, by name; no part of the score.
    """

    user: Mapping[str, Tensor]
    item: Mapping[str, Tensor]
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side in (self.user, self.item):
            if not isinstance(side, Mapping):
                raise DataError(
                    f"'Embeddings' expects a matrix per channel, as in {{'id': user}}, for users and for items "
                    f"(got a {type(side).__name__})"
                )
        if not self.user or set(self.user) != set(self.item):
            raise DataError(
                f"'Embeddings' expects the same channels, at least one, for users and items "
                f"(got {sorted(self.user)} and {sorted(self.item)})"
            )
        for channel, user in self.user.items():
            item = self.item[channel]
            if user.dim() != 2 or item.dim() != 2 or user.size(1) != item.size(1):
                raise DataError(
                    f"channel '{channel}' expects matrices of one width "
                    f"(got users {list(user.shape)} and items {list(item.shape)})"
                )
            if (user.size(0), item.size(0)) != (self.num_users, self.num_items):
                raise DataError(
                    f"channel '{channel}' expects {self.num_users} users and {self.num_items} items, as the first "
                    f"channel has (got {user.size(0)} and {item.size(0)})"
                )

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return tuple(self.user)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return next(iter(self.user.values())).size(0)

    @property
    def num_items(self) -> int:
        """Number of items."""
        return next(iter(self.item.values())).size(0)

    def channel_scores(self, user: Tensor, item: Tensor) -> dict[str, Tensor]:
        """``[n]`` per channel: its part of the score of each pair.

        Args:
            user: ``[n]`` user ids.
            item: ``[n]`` item ids.
        """
        # F.embedding's backward is deterministic on CPU; that of indexing is not once several threads add.
        return {c: (F.embedding(user, self.user[c]) * F.embedding(item, self.item[c])).sum(-1) for c in self.user}

    def scores(self, user: Tensor, item: Tensor) -> Tensor:
        """``[n]`` score of each pair."""
        return torch.stack(list(self.channel_scores(user, item).values())).sum(0)

    def concatenated(self) -> tuple[Tensor, Tensor]:
        """One matrix of users and one of items with the same scores, e.g. for a single retrieval index.

        Channels that share their user matrix (a fused user) are added up on the item side rather than repeated.
        """
        groups: dict[int, list[str]] = {}
        for channel, user in self.user.items():
            groups.setdefault(id(user), []).append(channel)
        users, items = [], []
        for names in groups.values():
            users.append(self.user[names[0]])
            items.append(self.item[names[0]] if len(names) == 1 else sum_tensors([self.item[n] for n in names]))
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def subset(self, channels: list[str] | tuple[str, ...]) -> Embeddings:
        """Only some of the channels: the score without the others."""
        for channel in channels:
            if channel not in self.user:
                raise DataError(unknown_name("channel", channel, self.user))
        return Embeddings({c: self.user[c] for c in channels}, {c: self.item[c] for c in channels})

    def detach(self) -> Embeddings:
        """The same values, cut from the autograd graph."""
        return self.map(torch.Tensor.detach)

    def map(self, function: Callable[[Tensor], Tensor]) -> Embeddings:
        """Every matrix put through a function, once each: channels that share a matrix go on sharing it.

        Args:
            function: Takes a matrix and returns one.
        """
        made: dict[int, Tensor] = {}

        def once(x: Tensor) -> Tensor:
            if id(x) not in made:
                made[id(x)] = function(x)
            return made[id(x)]

        user, item, extra = ({c: once(x) for c, x in part.items()} for part in (self.user, self.item, self.extra))
        return Embeddings(user, item, extra)

    def check_finite(self) -> Embeddings:
        """Returns itself.

        Raises:
            NonFiniteError: If a matrix holds NaN or infinity; names it and the first row.
        """
        for side, matrices in (("user", self.user), ("item", self.item)):
            for channel, matrix in matrices.items():
                finite = torch.isfinite(matrix).all(dim=1)
                if not bool(finite.all()):
                    row = int((~finite).nonzero()[0])
                    raise NonFiniteError(f"{side} embedding of channel '{channel}' is not finite, first in row {row}")
        return self


def sum_tensors(tensors: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
