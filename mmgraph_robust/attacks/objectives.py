"""What an attacker maximises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import NegativeSampler
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.metrics import hits, rank_items
from mmgraph_robust.models import Embeddings
from mmgraph_robust.sparse import Adjacency


class Objective:
    """A differentiable number that grows as the ranking gets worse.

    Args:
        pairs: ``[2, n]`` the positive (user, item) pairs that the attacker knows.
        graph: The training graph.
        generator: Randomness of the objective, drawn once.
    """

    def __init__(self, pairs: Tensor, graph: Graph, generator: torch.Generator) -> None:
        self.user, self.item = pairs
        self.graph = graph

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """The value, a scalar."""
        raise NotImplementedError


class MarginObjective(Objective):
    r"""The paper's objective: minus the mean margin of positives over the whole catalogue,
    :math:`-\mathrm{mean}_{(u,i)} ( s_{ui} - \mathrm{mean}_k\, s_{uk} )`."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        user, item = embeddings.concatenated()
        # mean_k <u, x_k> = <u, mean_k x_k>: no matrix of users times items.
        return -(F.embedding(self.user, user) * (F.embedding(self.item, item) - item.mean(0))).sum(1).mean()


class BPRObjective(Objective):
    """The BPR loss of the known positives, each against one item without a training interaction, drawn once."""

    def __init__(self, pairs: Tensor, graph: Graph, generator: torch.Generator) -> None:
        super().__init__(pairs, graph, generator)
        self.negative = NegativeSampler(graph).sample(self.user.cpu(), generator).to(self.user.device)

    def __call__(self, embeddings: Embeddings) -> Tensor:
        positive = embeddings.scores(self.user, self.item)
        return F.softplus(embeddings.scores(self.user, self.negative) - positive).mean()


class BoundaryObjective(Objective):
    r"""The ranking boundary: known positives against the item that currently stands at rank :math:`K` of the
    user's list (training items left out, known positives skipped),

    .. math::
        -\mathrm{mean}_{(u,i)}\ \tau\, \mathrm{softplus}\big((s_{ui} - s_{u b_u}) / \tau\big)

    with :math:`\tau` the standard deviation of the margins at the first call. Positives that are lost already give no
    gradient, so the budget goes to those still inside the list.

    Args:
        k: Length :math:`K` of the list.
    """

    def __init__(self, pairs: Tensor, graph: Graph, generator: torch.Generator, k: int = 20) -> None:
        super().__init__(pairs, graph, generator)
        self.k = k
        self.relevant = Adjacency.from_edge_index(pairs, num_rows=graph.num_users, num_cols=graph.num_items)
        self.users, self.place = torch.unique(self.user, return_inverse=True)
        self.temperature: Tensor | None = None

    def __call__(self, embeddings: Embeddings) -> Tensor:
        user, item = embeddings.concatenated()
        rival = self._rivals(user.detach(), item.detach())
        u, i = F.embedding(self.user, user), F.embedding(self.item, item)
        margin = (u * (i - F.embedding(rival[self.place], item))).sum(1)
        if self.temperature is None:
            # One known positive has no spread.
            known = margin.detach()
            self.temperature = known.std().clamp(min=1e-12) if known.numel() > 1 else torch.ones_like(known[0])
        return -(F.softplus(margin / self.temperature) * self.temperature).mean()

    def _rivals(self, user: Tensor, item: Tensor) -> Tensor:
        # As many more as a user has positives, so that an irrelevant item at or behind rank K remains.
        spare = int(self.relevant.degree().max())
        lists = rank_items(user, item, self.users, self.graph.interactions, min(self.k + spare, item.size(0)))
        usable = ~hits(lists, self.users, self.relevant) & (lists >= 0)
        rank = torch.arange(lists.size(1), device=lists.device)
        # The first usable entry from rank K on; where there is none, the last usable one before it.
        score = torch.where(rank >= self.k - 1, 2 * lists.size(1) - rank, rank) * usable
        return lists.gather(1, score.argmax(1, keepdim=True)).flatten().clamp(min=0)


OBJECTIVES: dict[str, type[Objective]] = {
    "margin": MarginObjective,
    "bpr": BPRObjective,
    "boundary": BoundaryObjective,
}


def check_objective(name: str) -> str:
    """Returns `name`.

    Raises:
        ConfigError: If there is no such objective.
    """
    if name not in OBJECTIVES:
        raise ConfigError(unknown_name("objective", name, OBJECTIVES))
    return name
