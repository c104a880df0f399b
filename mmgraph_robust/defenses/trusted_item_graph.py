"""An item graph without cliffs, whose edges count as far as users confirm them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.wrapped import WrappedModel
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency, SoftGraph, cooccurrence_graph, soft_topk
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, Int


class TrustedItemGraph(WrappedModel):
    r"""A model with an item graph that has no cliffs, and whose edges count as far as users confirm them.

    .. math::
        A'_{ij} = p_{ij}\, t_{ij}\, A_{ij}, \qquad p_{ij} = \sigma\Big(\frac{\cos(x_i, x_j) - b_i}{\tau\, s_i}\Big),
        \quad \sum_j p_{ij} = k, \qquad t_{ij} = \begin{cases}
            1 & i = j, \text{ or } j \in \mathrm{top}_s\, \lvert U_i \cap U_j \rvert,
                \text{ or } U_i \text{ or } U_j \text{ is empty} \\
            \rho & \text{else}
        \end{cases}

    over the :math:`c\,k` nearest items of each, with :math:`U_i` the users of item :math:`i` in training and
    :math:`s_i` the spread of its candidates' cosines. Two things make an item graph weak. Its edges come and go whole,
    so that a small change of features, which moves a cosine past another, replaces a neighbour: here such a pair trades
    weight little by little. And who uploads items chooses their features, and by them their neighbours; he does not
    choose what others bought: a neighbour that he forges counts :math:`\rho`. Items that nobody has bought yet keep the
    graph of their features, which is what it is for: this part does not protect them, nor against made-up users.

    It holds for every search of neighbours in the forward pass, among features or among learned projections (LATTICE),
    in training and afterwards; data with stored item graphs (:func:`~mmgraph_robust.data.add_item_graphs`) are refused,
    since there is nothing left to search. Gradients reach all of it, so attacks see what they do.

    Args:
        model: A model that reads item graphs (FREEDOM, LATTICE, MGCN, DRAGON), not yet trained.
        data: The data set, for its training interactions (:obj:`None`: what they say is read from a file afterwards).
        softness: Softness :math:`\tau` of the choice of neighbours; 0 chooses whole ones, as the model does.
        candidates: How many times the model's number of neighbours share the choice, :math:`c`; with 1 there is none.
        floor: Weight :math:`\rho` of an edge that no user confirms; 1 trusts all.
        support: How many items :math:`s` confirm an edge of an item at most, those with most users in common.
        seed: Plays no part: nothing is drawn.

    Source: the formulas above are this library's own; that an attacker cannot move all evidence at once is the idea
    behind consensus and edge trust in robust graph learning.
    """

    trains: ClassVar[bool] = True
    search_space: ClassVar[dict[str, Domain]] = {
        "softness": Float(0.1, 1.0),
        "floor": Float(0.03, 1.0, log=True),
        "support": Int(10, 100),
    }

    pairs: Tensor
    known: Tensor

    def __init__(
        self,
        model: Recommender,
        data: HeteroData | None,
        *,
        softness: float = 0.5,
        candidates: int = 3,
        floor: float = 0.1,
        support: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data, seed=seed)
        self._check_sizes(softness=softness)
        self._check_counts(candidates=candidates, support=support)
        self._check(floor=(0 <= floor <= 1, "from 0 to 1", floor))
        if model.knn_k is None:
            raise ConfigError(f"'{type(model).__name__}' reads no item graph: there are no edges to trust")
        self.softness = softness
        self.candidates = candidates
        self.floor = floor
        self.support = support
        pairs, known = torch.empty(0, dtype=torch.long), torch.ones(self.num_items, dtype=torch.bool)
        if data is not None:
            items = Graph.from_data(data).interactions.t()
            row, column = cooccurrence_graph(items, support).edge_index()
            pairs, known = (row * self.num_items + column).sort().values.cpu(), (items.degree() > 0).cpu()
        self.register_buffer("pairs", pairs)
        self.register_buffer("known", known)

    def item_graphs(self, features: Features, graph: Graph) -> dict[str, Adjacency]:
        """Those of the model, their edges weighed."""
        return super().item_graphs(features, self._trusting(graph))

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """That of the model, whose edges are weighed."""
        return super().training_graph(self._trusting(graph), previous, features, step, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """The model's embeddings."""
        result: Embeddings = self.model(features, self._trusting(graph))
        return result

    def _trusting(self, graph: Graph) -> Graph:
        plain = [name for name, found in graph.item_graphs.items() if not isinstance(found, SoftGraph)]
        if plain:
            raise ConfigError(
                f"'{type(self).__name__}' chooses neighbours itself, and the data hold item graphs of {plain}: hand it "
                "the data without them, as 'with_item_graphs(data, {})' makes them"
            )
        return graph if isinstance(graph.search, _Search) else graph.with_search(_Search(self, graph.search))

    def weigh(self, graph: Adjacency, k: int) -> SoftGraph:
        """The same edges, each as far as it is chosen and confirmed.

        Args:
            graph: ``[num_items, num_items]`` with cosines as values, as many edges in each row.
            k: How many neighbours each row has in sum, itself included.
        """
        row, column = graph.row.long(), graph.col.long()
        key = row * self.num_items + column
        place = torch.searchsorted(self.pairs, key).clamp(max=max(self.pairs.numel() - 1, 0))
        confirmed = self.pairs[place] == key if self.pairs.numel() else torch.zeros_like(key, dtype=torch.bool)
        free = (row == column) | confirmed | ~self.known[row] | ~self.known[column]
        # Candidates that an attack looks at beside the true ones have weight 0, and take none away.
        cosine, given = (graph.cosine, graph.selection) if isinstance(graph, SoftGraph) else (graph.values(), None)
        trust = torch.where(free, 1.0, self.floor).to(cosine)
        there = torch.ones_like(free) if given is None else given.detach() > 0.5
        weight = trust * self._shares(cosine, row == column, there, k)
        return SoftGraph(graph.structure, cosine, weight if given is None else weight * given)

    def _shares(self, cosine: Tensor, own: Tensor, there: Tensor, k: int) -> Tensor:
        shape = (self.num_items, -1)
        cosine, others, own = cosine.view(shape), (there & ~own).view(shape), own.view(shape)
        if self.softness == 0 or int(others.sum(1).min()) <= k - 1 or k < 2:
            return torch.ones_like(cosine).flatten()
        count = others.sum(1, keepdim=True)
        mean = (cosine * others).sum(1, keepdim=True) / count
        # Bounded before the root: where all are equal its slope would be infinite.
        spread = (((cosine - mean) * others).square().sum(1, keepdim=True) / count).clamp(min=1e-12).sqrt()
        temperature = self.softness * spread
        # So far below that nothing is left of it, and near enough to keep the search of the boundary exact.
        below = (mean - 10 * spread - 40 * temperature).detach()
        share = soft_topk(torch.where(others, cosine, below), k - 1, temperature)
        return torch.where(own, 1.0, share).flatten()


@dataclass(frozen=True)
class _Search:
    """A search of neighbours whose edges are weighed; around another, so that attacks can make that one soft."""

    model: TrustedItemGraph
    search: Callable[[Tensor, int], Adjacency]

    def __call__(self, x: Tensor, k: int) -> Adjacency:
        wide = k if self.model.softness == 0 else min(self.model.candidates * k, x.size(0))
        return self.model.weigh(self.search(x, wide), k)
