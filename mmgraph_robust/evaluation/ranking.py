"""Clean ranking quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.victim import frozen
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.schema import ITEM, USER, interactions
from mmgraph_robust.errors import ConfigError, DataError, unknown_name
from mmgraph_robust.metrics import METRICS, hits, rank_items, ranking_metrics, score_margins
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.models.base import check_recommender
from mmgraph_robust.sparse import Adjacency


class Evaluator:
    """Full ranking on one split, compiled once and used after every epoch.

    All items are ranked for every user who has an interaction in the split, except those that she has seen. Users
    without a training interaction count, too (the widely used toolbox drops them when it reads the data).

    Args:
        data: The data set.
        split: The split whose interactions are to be found.
        k: Cut-offs.
        metrics: Names out of :data:`mmgraph_robust.metrics.METRICS`.
        mask_validation: Whether a user's validation items are left out of the ranking when testing. Off, they compete
            with the test items for a place, as in the widely used toolbox and its published numbers.

    Raises:
        DataError: If the split is empty, or holds a pair twice or one that is left out of the ranking.
        ConfigError: If a cut-off or a metric is not known.
    """

    def __init__(
        self,
        data: HeteroData,
        split: Literal["train", "val", "test"] = "test",
        k: Sequence[int] = (10, 20),
        metrics: Sequence[str] = METRICS,
        mask_validation: bool = False,
    ) -> None:
        cutoffs = [k] if isinstance(k, int) else list(k)
        if not cutoffs or any(not isinstance(c, int) or c < 1 for c in cutoffs):
            raise ConfigError(f"'k' expects whole numbers >= 1 (got {k})")
        self.k = cutoffs
        if isinstance(metrics, str):
            raise ConfigError(f"'metrics' expects a list of names (got '{metrics}')")
        for name in metrics:
            if name not in METRICS:
                raise ConfigError(unknown_name("metric", name, METRICS))
        self.metrics = list(metrics)
        self.split = split
        num_users, num_items = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        self.pairs = interactions(data, split).cpu()
        if self.pairs.size(1) == 0:
            raise DataError(f"the {split} split is empty: nothing can be evaluated on it; make one with 'random_split'")
        if torch.unique(self.pairs[0] * num_items + self.pairs[1]).numel() < self.pairs.size(1):
            raise DataError(f"the {split} split holds pairs twice, which a list can hold once: 'validate' names them")
        self.relevant = Adjacency.from_edge_index(self.pairs, num_rows=num_users, num_cols=num_items)
        if split == "train":
            seen = self.pairs[:, :0]
        else:
            seen = interactions(data, "train").cpu()
            if split == "test" and mask_validation:
                seen = torch.cat([seen, interactions(data, "val").cpu()], dim=1)
        if torch.isin(self.pairs[0] * num_items + self.pairs[1], seen[0] * num_items + seen[1]).any():
            raise DataError(
                f"pairs of the {split} split stand in another one, whose items are left out of the ranking: nobody can "
                "find them; 'validate' names them"
            )
        self.seen = Adjacency.from_edge_index(seen, num_rows=num_users, num_cols=num_items)
        self.num_relevant = self.relevant.degree()
        self.users = self.num_relevant.nonzero().flatten()

    def lists(self, embeddings: Embeddings) -> Tensor:
        """``[n, max(k)]`` ranked items of :attr:`users`, -1 for padding."""
        user, item = embeddings.check_finite().concatenated()
        device = user.device
        return rank_items(user, item, self.users.to(device), self.seen.to(device), max(self.k)).cpu()

    def found(self, lists: Tensor) -> Tensor:
        """``[num_pairs]`` whether the item of each of :attr:`pairs` stands in its user's list of :meth:`lists`."""
        width = self.relevant.num_cols
        listed = (self.users[:, None] * width + lists)[hits(lists, self.users, self.relevant)]
        return torch.isin(self.pairs[0] * width + self.pairs[1], listed)

    def per_user(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """``[n]`` for every metric, one value for each of :attr:`users`."""
        lists = self.lists(embeddings)
        hit = hits(lists, self.users, self.relevant)
        return ranking_metrics(hit, self.num_relevant[self.users], self.k, self.metrics)

    def __call__(self, embeddings: Embeddings) -> dict[str, float]:
        """Means over users."""
        return {name: float(value.mean()) for name, value in self.per_user(embeddings).items()}

    def margins(self, embeddings: Embeddings) -> dict[str, float]:
        """Score margins per channel over the interactions of the split."""
        return score_margins(embeddings, self.pairs.to(next(iter(embeddings.user.values())).device))


def embed(model: Recommender, data: HeteroData, graph: Graph | None = None) -> Embeddings:
    """The model's embeddings on `data`, computed anew in evaluation mode, without gradients, and its own no longer.

    Args:
        model: The model; its mode is left as it was.
        data: The data, clean or attacked.
        graph: The graph of `data` compiled for the model, where it is at hand.

    Raises:
        ConfigError: If the model is no :class:`~mmgraph_robust.models.Recommender`.
        DataError: If its forward pass returns no :class:`~mmgraph_robust.models.Embeddings`.
    """
    check_recommender(model)
    # A model that draws in its forward pass draws the same in every evaluation.
    with frozen(model), torch.no_grad():
        graph = model.graph(data) if graph is None else graph
        found: Any = model(model.features(data), graph.to(model.device))
    if not isinstance(found, Embeddings):
        kind = type(found).__name__
        raise DataError(f"'{type(model).__name__}' expects its forward pass to return 'Embeddings' (got a {kind})")
    # A model without layers returns its parameters themselves, which go on to change where it is trained on.
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    return found.map(lambda x: x.detach().clone() if x.untyped_storage().data_ptr() in own else x.detach())


def evaluate(
    model: Recommender,
    data: HeteroData,
    split: Literal["train", "val", "test"] = "test",
    k: Sequence[int] = (10, 20),
    *,
    metrics: Sequence[str] = METRICS,
    mask_validation: bool = False,
) -> dict[str, float]:
    """Ranking quality of a model on one split of `data`, full ranking over all items.

    Args:
        model: The model.
        data: The data, clean or attacked.
        split: The split whose interactions are to be found.
        k: Cut-offs.
        metrics: Names out of :data:`mmgraph_robust.metrics.METRICS`.
        mask_validation: See :class:`Evaluator`.

    Returns:
        Means over users, by keys such as ``"recall@20"``.
    """
    evaluator = Evaluator(data, split, k, metrics, mask_validation)
    return evaluator(embed(model, data))
