"""An item graph whose edges count as far as users confirm them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.defenses.wrapped import WrappedModel
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency, SoftGraph, cooccurrence_graph
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, Int


class TrustedItemGraph(WrappedModel):
    r"""A model with an item graph whose edges between items that no user had in common count less.

    .. math::
        A'_{ij} = t_{ij} A_{ij}, \qquad t_{ij} = \begin{cases}
            1 & i = j, \text{ or } j \in \mathrm{top}_s\, \lvert U_i \cap U_j \rvert,
                \text{ or } U_i \text{ or } U_j \text{ is empty} \\
            \rho & \text{else}
        \end{cases}

    with :math:`U_i` the users of item :math:`i` in training. Who uploads items chooses their features, and by them
    their neighbours; he does not choose what others bought. A neighbour that he forges has weight :math:`\rho`, and one
    that he drives away was worth as much where users had not confirmed it. Items that nobody has bought yet keep the
    graph of their features, which is what it is for: the defense does not protect them, nor against made-up users. It
    holds for every search of neighbours in the forward pass, among features or among learned projections (LATTICE), in
    training and afterwards.

    Args:
        model: A model that reads item graphs (FREEDOM, LATTICE, MGCN, DRAGON), not yet trained.
        data: The data set, for its training interactions (:obj:`None`: what they say is read from a file afterwards).
        floor: Weight :math:`\rho` of an edge that no user confirms; 1 leaves the model as it is.
        support: How many items :math:`s` confirm an edge of an item at most, those with most users in common.
        seed: Plays no part: nothing is drawn.

    Source: the formula above is this library's own; that attackers of a recommender's graph cannot move all of its
    evidence at once is the idea behind consensus and edge trust in robust graph learning.
    """

    trains: ClassVar[bool] = True
    search_space: ClassVar[dict[str, Domain]] = {"floor": Float(0.01, 1.0, log=True), "support": Int(10, 100)}

    pairs: Tensor
    known: Tensor

    def __init__(
        self,
        model: Recommender,
        data: HeteroData | None,
        *,
        floor: float = 0.1,
        support: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data, seed=seed)
        self._check(floor=(0 <= floor <= 1, "from 0 to 1", floor), support=(support >= 1, ">= 1", support))
        if model.knn_k is None:
            raise ConfigError(f"'{type(model).__name__}' reads no item graph: there are no edges to trust")
        self.floor = floor
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
        """That of the model."""
        return self.model.training_graph(self._trusting(graph), previous, features, step, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """The model's embeddings."""
        result: Embeddings = self.model(features, self._trusting(graph))
        return result

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """That of the model."""
        return self.model.loss(embeddings, batch, features)

    def _trusting(self, graph: Graph) -> Graph:
        return graph if isinstance(graph.search, _Search) else graph.with_search(_Search(self, graph.search))

    def weigh(self, graph: Adjacency) -> SoftGraph:
        """The same edges, each as far as it is confirmed.

        Args:
            graph: ``[num_items, num_items]`` with cosines as values.
        """
        row, column = graph.row.long(), graph.col.long()
        key = row * self.num_items + column
        place = torch.searchsorted(self.pairs, key).clamp(max=max(self.pairs.numel() - 1, 0))
        confirmed = self.pairs[place] == key if self.pairs.numel() else torch.zeros_like(key, dtype=torch.bool)
        free = (row == column) | confirmed | ~self.known[row] | ~self.known[column]
        trust = torch.where(free, 1.0, self.floor).to(graph.values())
        if isinstance(graph, SoftGraph):
            return SoftGraph(graph.structure, graph.cosine, trust * graph.selection)
        return SoftGraph(graph.structure, graph.values(), trust)


@dataclass(frozen=True)
class _Search:
    """A search of neighbours whose edges are weighed; around another, so that attacks can make that one soft."""

    model: TrustedItemGraph
    search: Callable[[Tensor, int], Adjacency]

    def __call__(self, x: Tensor, k: int) -> Adjacency:
        return self.model.weigh(self.search(x, k))
