"""What an attacker maximises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from mmgraph_robust.attacks.rivals import Rivals
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import NegativeSampler
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.metrics import hits, rank_items
from mmgraph_robust.models import Embeddings
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.utils import child_generator, chunks

_RIVALS = 5
_WIDTHS = (0.3, 0.1, 0.03)
_BLOCK_ELEMENTS = 1 << 24


class Objective:
    """A differentiable number that grows as the attacker comes closer to his goal.

    Args:
        pairs: ``[2, n]`` the (user, item) pairs that are to fall, or to rise.
        graph: The training graph.
        seed: Seed of the objective's randomness, drawn once.
        k: Length of the list that matters.
        promote: Whether the pairs are to rise.
    """

    def __init__(self, pairs: Tensor, graph: Graph, seed: int = 0, *, k: int = 20, promote: bool = False) -> None:
        self.pairs = pairs
        self.user, self.item = pairs
        self.graph = graph
        self.seed = seed
        self.k = k
        self.promote = promote

    @property
    def sign(self) -> float:
        """1 where margins are to fall, -1 where they are to rise."""
        return -1.0 if self.promote else 1.0

    def sibling(self, kind: type[Objective]) -> Objective:
        """Another objective of the same pairs."""
        return kind(self.pairs, self.graph, self.seed, k=self.k, promote=self.promote)

    def on(self, graph: Graph) -> Self:
        """The same objective on another graph of the same interactions."""
        return type(self)(self.pairs, graph, self.seed, k=self.k, promote=self.promote)

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        """The value, a scalar.

        Args:
            embeddings: The model's embeddings.
            exact: Whether what is kept between calls to save time is computed anew.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Drops what is kept between calls to save time, so that a search does not depend on those before it."""


class MarginObjective(Objective):
    r"""The paper's objective: minus the mean margin of the pairs over the whole catalogue,
    :math:`-\mathrm{mean}_{(u,i)} ( s_{ui} - \mathrm{mean}_k\, s_{uk} )`."""

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        user, item = embeddings.concatenated()
        # mean_k <u, x_k> = <u, mean_k x_k>: no matrix of users times items.
        margin = (F.embedding(self.user, user) * (F.embedding(self.item, item) - item.mean(0))).sum(1)
        return -self.sign * margin.mean()


class BPRObjective(Objective):
    """The BPR loss of the pairs, each against one item without a training interaction, drawn once."""

    def __init__(self, pairs: Tensor, graph: Graph, seed: int = 0, *, k: int = 20, promote: bool = False) -> None:
        super().__init__(pairs, graph, seed, k=k, promote=promote)
        drawn = NegativeSampler(graph).sample(self.user.cpu(), child_generator(seed, "objective"))
        self.negative = drawn.to(self.user.device)

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        positive = embeddings.scores(self.user, self.item)
        return self.sign * F.softplus(embeddings.scores(self.user, self.negative) - positive).mean()


class _AgainstRivals(Objective):
    def __init__(self, pairs: Tensor, graph: Graph, seed: int = 0, *, k: int = 20, promote: bool = False) -> None:
        super().__init__(pairs, graph, seed, k=k, promote=promote)
        self.relevant = Adjacency.from_edge_index(pairs, num_rows=graph.num_users, num_cols=graph.num_items)
        self.users, self.place = torch.unique(self.user, return_inverse=True)
        # As many more as a user has positives, so that an irrelevant item at or behind rank K remains.
        spare = min(int(self.relevant.degree().max()), _RIVALS * k)
        self.depth = min(k + spare, graph.num_items)
        # Among the best of an earlier ranking a rival can only be too weak. Where pairs are to fall, that understates
        # what a step reached; where they are to rise it overstates it, and a search would go back to such a step.
        self.rivals = Rivals(self.users, graph.interactions, self.depth + k, longest=1 if promote else 32)
        self.temperature: Tensor | None = None

    def forget(self) -> None:
        """The catalogue is ranked anew in the next call."""
        self.rivals.forget()


class _AtBoundary(_AgainstRivals):
    def _margins(self, embeddings: Embeddings, exact: bool) -> tuple[Tensor, Tensor]:
        """By how much each pair's score surpasses that of the item at rank K; and how much that was at the first call,
        as a standard deviation."""
        user, item = embeddings.concatenated()
        rival = self._boundary(user.detach(), item.detach(), exact)
        u, i = F.embedding(self.user, user), F.embedding(self.item, item)
        margin = (u * (i - F.embedding(rival[self.place], item))).sum(1)
        if self.temperature is None:
            # One known positive has no spread.
            known = margin.detach()
            self.temperature = known.std().clamp(min=1e-12) if known.numel() > 1 else torch.ones_like(known[0])
        return margin, self.temperature

    def _boundary(self, user: Tensor, item: Tensor, exact: bool = True) -> Tensor:
        with torch.no_grad():
            known, scores = self.rivals(user, item, exact)
        best = scores.topk(min(self.depth, scores.size(1)), dim=1).indices
        lists = known.gather(1, best)
        usable = ~hits(lists, self.users, self.relevant, check=False) & (lists >= 0)
        rank = torch.arange(lists.size(1), device=lists.device)
        # The first usable entry from rank K on; where there is none, the last usable one before it.
        score = torch.where(rank >= self.k - 1, 2 * lists.size(1) - rank, rank) * usable
        return lists.gather(1, score.argmax(1, keepdim=True)).flatten().clamp(min=0)


class RecallObjective(_AtBoundary):
    r"""A smooth recall at :math:`K`: how many of the pairs stand before the item that is at rank :math:`K` of the
    user's list now (training items left out, the user's other pairs skipped), each user counting alike,

    .. math::
        \mp\, \mathrm{mean}_u\, \mathrm{mean}_{i \in P_u}\, \mathrm{mean}_c\
        \phi\Big(\frac{s_{ui} - s_{u b_u}}{c\, \tau}\Big), \qquad
        \phi(z) = \frac{1}{2} + \frac{\arctan z}{\pi}, \quad c \in \{0.3,\ 0.1,\ 0.03\}

    with :math:`\tau` the standard deviation of the margins at the first call. What counts is whether a pair is in the
    list: a budget that pulls at the first ranks, as a discounted gain does, or at pairs that are lost already, is
    wasted. So the step is steep; its tails are heavy and its widths several, so that pairs further away are not out of
    sight: small budgets want steep steps, large ones wide ones. Where a budget is large for the model (an undefended
    graph network), what pulls at whole lists (:class:`NDCGObjective`) may do more: run both, as the suite does.

    Between rankings of the whole catalogue the item at rank K is looked for among the best of the last one, as in
    :class:`BoundaryObjective`.

    Source: the formula above; this library's own.
    """

    def __init__(self, pairs: Tensor, graph: Graph, seed: int = 0, *, k: int = 20, promote: bool = False) -> None:
        super().__init__(pairs, graph, seed, k=k, promote=promote)
        self.weight = 1 / (self.users.numel() * torch.bincount(self.place)[self.place].float())

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        margin, temperature = self._margins(embeddings, exact)
        inside = sum((torch.atan(margin / (width * temperature)) for width in _WIDTHS), torch.zeros_like(margin))
        share = 0.5 + inside / (len(_WIDTHS) * torch.pi)
        return -self.sign * (self.weight.to(share) * share).sum()


class BoundaryObjective(_AtBoundary):
    r"""The ranking boundary: the pairs against the item that currently stands at rank :math:`K` of the
    user's list (training items left out, the user's other pairs skipped),

    .. math::
        -\mathrm{mean}_{(u,i)}\ \tau\, \mathrm{softplus}\big((s_{ui} - s_{u b_u}) / \tau\big)

    with :math:`\tau` the standard deviation of the margins at the first call. Pairs that are far behind give no
    gradient; those that are just lost still do, which :class:`RecallObjective` mends. A promotion maximises
    :math:`\mathrm{mean}_{(u,i)}\ \sigma\big((s_{ui} - s_{u b_u}) / \tau\big)`: an item is to reach many users, not to
    come nearer to those who are out of reach.

    Between rankings of the whole catalogue the item at rank K is looked for among the best of the last one. That can
    only lower the rival, so the value of pairs that are to fall is never overstated; for pairs that are to rise, the
    catalogue is ranked in every call.
    """

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        margin, temperature = self._margins(embeddings, exact)
        if self.promote:
            return torch.sigmoid(margin / temperature).mean()
        return -(F.softplus(margin / temperature) * temperature).mean()


class NDCGObjective(_AgainstRivals):
    r"""A smooth discounted gain, in the manner of `"A General Approximation Framework for Direct Optimization of
    Information Retrieval Measures" <https://doi.org/10.1007/s10791-009-9124-x>`_ (Qin, Liu and Li, Information
    Retrieval 2010),

    .. math::
        \mp\, \mathrm{mean}_{(u,i)}\ \frac{1}{\log_2(1 + \hat r_{ui})}, \qquad
        \hat r_{ui} = 1 + \sum_{j \in R_u, j \ne i} \sigma\big((s_{uj} - s_{ui}) / \tau\big)

    over the best-ranked items :math:`R_u` of each user, with :math:`\tau` half the mean standard deviation of their
    scores at the first call.

    Items behind :math:`R_u` add next to nothing to the rank of what stands near its head; memory is bounded by pairs
    times :math:`|R_u|`.
    """

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        user, item = embeddings.concatenated()
        known, scores = self.rivals(user, item, exact)
        own = (F.embedding(self.user, user) * F.embedding(self.item, item)).sum(1)
        if self.temperature is None:
            finite = torch.isfinite(scores)
            count = finite.sum(1).clamp(min=1)
            values = scores.detach().masked_fill(~finite, 0.0)
            mean = values.sum(1) / count
            spread = ((values - mean[:, None]).square() * finite).sum(1) / count
            self.temperature = (0.5 * spread.sqrt().mean()).clamp(min=1e-12)
        total = own.new_zeros(())
        for start, stop in chunks(self.user.numel(), max(1, _BLOCK_ELEMENTS // known.size(1))):
            place, item_ids = self.place[start:stop], self.item[start:stop]
            above = torch.sigmoid((F.embedding(place, scores) - own[start:stop, None]) / self.temperature)
            rank = 1 + above.masked_fill(known[place] == item_ids[:, None], 0.0).sum(1)
            total = total + (1 / torch.log2(1 + rank)).sum()
        return -self.sign * total / self.user.numel()


class HookObjective(Objective):
    r"""The shift of embeddings toward a hook item: minus the mean squared distance of the target items' vectors from
    that of the hook :math:`h` at the first call, :math:`-\mathrm{mean}_i \Vert e_i - e_h \Vert^2`, as in `"Adversarial
    Item Promotion: Vulnerabilities at the Core of Top-N Recommenders that Use Images to Address Cold Start"
    <https://arxiv.org/abs/2006.01888>`_ (Liu and Larson, WWW 2021).

    The hook of a promotion is the item with the highest mean score, otherwise the one with the lowest.
    """

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        user, item = embeddings.concatenated()
        if not hasattr(self, "hook"):
            liked = item.detach() @ user.detach().mean(0)
            self.hook = item[liked.argmax() if self.promote else liked.argmin()].detach().clone()
            self.targets = torch.unique(self.item)
        return -(F.embedding(self.targets, item) - self.hook).square().sum(1).mean()


class RankObjective(Objective):
    r"""What ranked lists alone tell: the mean discounted gain of the pairs in lists of length :math:`5K`,
    :math:`\mp\, \mathrm{mean}_{(u,i)}\ [r_{ui} \le 5K] / \log_2(1 + r_{ui})`. It has no gradient."""

    def __call__(self, embeddings: Embeddings, exact: bool = False) -> Tensor:
        users, place = torch.unique(self.user, return_inverse=True)
        user, item = (x.detach() for x in embeddings.concatenated())
        lists = rank_items(user, item, users, self.graph.interactions, min(_RIVALS * self.k, item.size(0)))
        discount = 1 / torch.log2(torch.arange(2, lists.size(1) + 2, device=lists.device))
        total = item.new_zeros(())
        for start, stop in chunks(self.user.numel(), max(1, _BLOCK_ELEMENTS // lists.size(1))):
            found = lists[place[start:stop]] == self.item[start:stop, None]
            total = total + (found * discount).sum()
        return -self.sign * total / self.user.numel()


OBJECTIVES: dict[str, type[Objective]] = {
    "margin": MarginObjective,
    "bpr": BPRObjective,
    "recall": RecallObjective,
    "boundary": BoundaryObjective,
    "ndcg": NDCGObjective,
    "hook": HookObjective,
}


def check_objective(name: str) -> str:
    """Returns `name`.

    Raises:
        ConfigError: If there is no such objective.
    """
    if name not in OBJECTIVES:
        raise ConfigError(unknown_name("objective", name, OBJECTIVES))
    return name
