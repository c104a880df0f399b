"""Full ranking in bounded memory, and the metrics of ranked lists."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError, NonFiniteError, unknown_name
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.utils import chunks, is_whole, matmul, stable_topk

METRICS = ("recall", "ndcg", "precision", "map", "hit_rate")
"""Names of the metrics."""

# Scores held at once. A block that stays in the cache, in memory that the allocator keeps, is ranked twice as fast as a
# larger one; but with few users at a time the items are read anew for each of them.
_BLOCK_ELEMENTS = 1 << 22
_FEW_USERS = 64


def cutoff_of(metric: str) -> int:
    """The cut-off of a metric's full name: 20 of ``"recall@20"``.

    Raises:
        ConfigError: If there is no such metric.
    """
    name, _, cutoff = metric.partition("@")
    if name not in METRICS:
        raise ConfigError(unknown_name("metric", name, METRICS))
    # As the keys of metrics are written: "020", or digits of another script, would be found nowhere.
    if not cutoff.isdecimal() or int(cutoff) < 1 or str(int(cutoff)) != cutoff:
        raise ConfigError(f"a metric's full name has a cut-off, such as 'recall@20' (got '{metric}')")
    return int(cutoff)


def rank_items(user: Tensor, item: Tensor, users: Tensor, seen: Adjacency, k: int) -> Tensor:
    """The top `k` items of each user by inner product, without those that she has seen.

    Ties are broken by (score descending, item ascending). Memory is bounded by a block of users times all items. Scores
    that differ in the last bit only may change places with the number of users that are ranked together.

    Args:
        user: ``[num_users, dim]`` user vectors.
        item: ``[num_items, dim]`` item vectors.
        users: ``[n]`` users to rank for.
        seen: ``[num_users, num_items]`` items to leave out.
        k: Length of the lists.

    Shapes:
        - **output:** ``[n, k]`` item ids; -1 where a user has fewer than `k` candidates.

    Raises:
        DataError: If `seen` has another number of users or items, or a user is none of them.
        ConfigError: If `k` is no whole number >= 1.
        NonFiniteError: If a score is NaN or infinite.
    """
    if not is_whole(k) or k < 1:
        raise ConfigError(f"'k' expects a whole number >= 1 (got {k})")
    if seen.shape != (user.size(0), item.size(0)):
        raise DataError(f"'seen' expects {user.size(0)} users x {item.size(0)} items (got {seen})")
    _check_range("users", users, user.size(0))
    num_items = item.size(0)
    block = _users_at_a_time(num_items)
    kept = min(k, num_items)
    lists = []
    for start, stop in chunks(users.numel(), block):
        part = users[start:stop]
        scores = matmul(user[part], item.t())
        if not bool(torch.isfinite(scores.sum())) and not bool(torch.isfinite(scores).all()):
            raise NonFiniteError("scores are not finite: the model's embeddings hold NaN, infinity or overflow")
        row, col = edges_of(seen, part)
        scores[row, col] = -torch.inf
        values, columns = stable_topk(scores, kept)
        columns[values == -torch.inf] = -1
        lists.append(torch.nn.functional.pad(columns, (0, k - kept), value=-1))
    return torch.cat(lists) if lists else users.new_zeros(0, k)


def _users_at_a_time(num_items: int) -> int:
    good, most = (limit // max(num_items, 1) for limit in (_BLOCK_ELEMENTS, 4 * _BLOCK_ELEMENTS))
    return max(1, good, min(most, _FEW_USERS))


def _check_range(name: str, ids: Tensor, size: int) -> None:
    if ids.numel() > 0 and bool(((ids < 0) | (ids >= size)).any()):
        raise DataError(f"'{name}' expects ids from 0 to {size - 1} (got {int(ids.min())} to {int(ids.max())})")


def edges_of(adjacency: Adjacency, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of some rows, as (position in `rows`, column)."""
    start = adjacency.rowptr[rows].long()
    count = adjacency.rowptr[rows + 1].long() - start
    position = torch.repeat_interleave(torch.arange(rows.numel(), device=rows.device), count)
    first = torch.cumsum(count, 0) - count
    offset = torch.arange(position.numel(), device=rows.device) - first[position]
    return position, adjacency.col[start[position] + offset].long()


def hits(lists: Tensor, users: Tensor, relevant: Adjacency, *, check: bool = True) -> Tensor:
    """``[n, k]`` whether each listed item is relevant; padding (-1) never is.

    Args:
        lists: ``[n, k]`` ranked item ids, -1 for padding.
        users: ``[n]`` whose lists these are.
        relevant: ``[num_users, num_items]`` relevant items.
        check: Whether ids are looked at, which waits for a GPU.

    Raises:
        DataError: If there are not as many lists as users, or an id is beyond those of `relevant`.
    """
    if lists.dim() != 2 or users.shape != lists.shape[:1]:
        raise DataError(f"'lists' expects one row for each of 'users' (got {list(lists.shape)}, {list(users.shape)})")
    if check:
        _check_range("users", users, relevant.num_rows)
        _check_range("lists", lists.clamp(min=0), relevant.num_cols)
    keys = relevant.row.long() * relevant.num_cols + relevant.col.long()
    if keys.numel() == 0:
        return torch.zeros_like(lists, dtype=torch.bool)
    wanted = users.long()[:, None] * relevant.num_cols + lists.clamp(min=0)
    place = torch.searchsorted(keys, wanted.flatten()).clamp(max=keys.numel() - 1)
    return (keys[place].view_as(lists) == wanted) & (lists >= 0)


def ranking_metrics(
    hit: Tensor, num_relevant: Tensor, k: Sequence[int], metrics: Sequence[str] = METRICS
) -> dict[str, Tensor]:
    r"""Metrics of each ranked list.

    With :math:`T` relevant items and hits :math:`h_1 \dots h_K`:
    recall :math:`\sum h / T`, precision :math:`\sum h / K`, hit rate :math:`[\sum h > 0]`, NDCG
    :math:`\sum_r h_r / \log_2(r+1)` over its largest possible value with :math:`\min(T, K)` hits, MAP
    :math:`\sum_r h_r P@r / \min(T, K)`.

    Args:
        hit: ``[n, max(k)]`` whether the entry at each rank is relevant.
        num_relevant: ``[n]`` number of relevant items, at least 1.
        k: Cut-offs.
        metrics: Names out of :data:`METRICS`.

    Shapes:
        - **output:** ``[n]`` float64 for every key such as ``"recall@20"``

    Raises:
        ConfigError: If a metric is not known, or a cut-off is beyond the lists.
        DataError: If `num_relevant` holds no whole numbers >= 1, or not one for each list.
    """
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(unknown_name("metric", name, METRICS))
    for cutoff in k:
        if cutoff < 1 or cutoff > hit.size(1):
            raise ConfigError(f"'k' expects cut-offs from 1 to {hit.size(1)} (got {cutoff})")
    if num_relevant.is_floating_point() or num_relevant.shape != hit.shape[:1]:
        kind = f"{list(num_relevant.shape)} of {num_relevant.dtype}"
        raise DataError(f"'num_relevant' expects [{hit.size(0)}] whole numbers (got {kind})")
    if bool((num_relevant < 1).any()):
        raise DataError(
            f"'num_relevant' expects numbers >= 1 (got {int(num_relevant.min())}): "
            "the metrics of a user without relevant items are not defined, leave her out"
        )
    hit = hit.double()
    rank = torch.arange(1, hit.size(1) + 1, dtype=torch.double, device=hit.device)
    discount = 1.0 / torch.log2(rank + 1)
    total = num_relevant.double()
    result: dict[str, Tensor] = {}
    for cutoff in k:
        h = hit[:, :cutoff]
        found = h.sum(1)
        reachable = num_relevant.clamp(max=cutoff)
        for name in metrics:
            if name == "recall":
                value = found / total
            elif name == "precision":
                value = found / cutoff
            elif name == "hit_rate":
                value = (found > 0).double()
            elif name == "ndcg":
                value = (h * discount[:cutoff]).sum(1) / discount.cumsum(0)[reachable - 1]
            else:
                value = (h * h.cumsum(1) / rank[:cutoff]).sum(1) / reachable
            result[f"{name}@{cutoff}"] = value
    return result
