"""HeteroData compiled once for computing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.item_graphs import stored_item_graphs
from mmgraph_robust.data.schema import INTERACTS, ITEM, USER, interactions
from mmgraph_robust.sparse import Adjacency, cooccurrence_graph, cosine_graph
from mmgraph_robust.utils import child_generator, is_on


class Graph:
    """The user-item graph of the training interactions as compiled sparse operators. Immutable.

    Attributes:
        num_users: Number of users.
        num_items: Number of items.
        interactions: ``[num_users, num_items]``, an edge per training interaction; its row pointers list a user's
            items, its transpose's an item's users.
        item_graphs: ``[num_items, num_items]`` per modality, from the edge types
            ``('item', 'similar_<modality>', 'item')`` where `data` has them: graphs that do not follow the features.
        latent_graphs: ``[num_items, num_items]`` per modality that a model learned itself and keeps for some training
            steps (:meth:`~mmgraph_robust.models.Recommender.training_graph`); empty otherwise.
        seed: Seed of what a training step leaves to chance (dropout and the like), which makes the forward pass a pure
            function of its inputs there, too; :obj:`None` outside training: nothing is left to chance.
        search: From vectors ``[num_items, dim]`` and `k` to a graph of nearest neighbours: how a forward pass finds
            those that it is not given, among features or among what it made of them
            (:func:`~mmgraph_robust.sparse.cosine_graph`, unless an attack wants to see past the choice).
    """

    def __init__(
        self,
        interactions: Adjacency,
        item_graphs: dict[str, Adjacency] | None = None,
        latent_graphs: dict[str, Adjacency] | None = None,
        seed: int | None = None,
        search: Callable[[Tensor, int], Adjacency] = cosine_graph,
    ) -> None:
        self.interactions = interactions
        self.num_users, self.num_items = interactions.shape
        self.item_graphs = dict(item_graphs or {})
        self.latent_graphs = dict(latent_graphs or {})
        self.seed = seed
        self.search = search
        # Made when first asked for, and shared by all graphs of the same interactions.
        self._operators: dict[str, Adjacency] = {}

    @classmethod
    def from_data(cls, data: HeteroData) -> Graph:
        """Compiles the training interactions (and item graphs, where there are any) of `data`."""
        num_items = int(data[ITEM].num_nodes)
        train = Adjacency.from_edge_index(
            interactions(data, "train"), num_rows=int(data[USER].num_nodes), num_cols=num_items
        )
        return cls(train, stored_item_graphs(data)).to(data[INTERACTS].edge_index.device)

    def with_interactions(self, interactions: Adjacency) -> Graph:
        """The same item graphs beside other interactions."""
        return Graph(interactions, self.item_graphs, self.latent_graphs, self.seed, self.search)

    def with_item_graphs(self, item_graphs: dict[str, Adjacency]) -> Graph:
        """The same interactions beside other item graphs of features (none: models build them from their features)."""
        other = copy.copy(self)
        other.item_graphs = dict(item_graphs)
        return other

    def with_latent_graphs(self, latent_graphs: dict[str, Adjacency]) -> Graph:
        """The same graph beside other learned item graphs (none: models learn them anew)."""
        other = copy.copy(self)
        other.latent_graphs = dict(latent_graphs)
        return other

    def with_seed(self, seed: int | None) -> Graph:
        """The same graph with another seed (:obj:`None`: nothing is left to chance)."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def with_search(self, search: Callable[[Tensor, int], Adjacency]) -> Graph:
        """The same graph with another way to find the neighbours that it does not hold."""
        other = copy.copy(self)
        other.search = search
        return other

    def generator(self, purpose: str) -> torch.Generator | None:
        """A fresh generator, on the CPU, for one purpose of a training step; :obj:`None` without :attr:`seed`."""
        return None if self.seed is None else child_generator(self.seed, purpose)

    @property
    def num_nodes(self) -> int:
        """Users and items together; in stacked matrices the users come first."""
        return self.num_users + self.num_items

    @property
    def device(self) -> torch.device:
        """Where the operators live."""
        return self.interactions.device

    @property
    def bipartite(self) -> Adjacency:
        """``[num_nodes, num_nodes]``: every training interaction in both directions, users stacked over items."""
        return self._operator("bipartite", self.interactions.bipartite)

    @property
    def bipartite_sym(self) -> Adjacency:
        r""":attr:`bipartite` normalised as :math:`D^{-1/2} A D^{-1/2}`."""
        return self._operator("sym", lambda: self.bipartite.normalize("sym"))

    @property
    def bipartite_mean(self) -> Adjacency:
        r""":attr:`bipartite` normalised as :math:`D^{-1} A`, the mean over neighbours."""
        return self._operator("mean", lambda: self.bipartite.normalize("row"))

    @property
    def bipartite_walk(self) -> Adjacency:
        r""":attr:`bipartite` with a self loop at every node, normalised as :math:`D^{-1} (A + I)`."""
        return self._operator("walk", lambda: self.bipartite.with_self_loops().normalize("row"))

    @property
    def interactions_sym(self) -> Adjacency:
        r""":attr:`interactions` normalised as :math:`D_u^{-1/2} A D_i^{-1/2}`, a block of :attr:`bipartite_sym`."""
        return self._operator("user_sym", lambda: self.interactions.normalize("sym"))

    def user_graph(self, k: int) -> Adjacency:
        """``[num_users, num_users]``: per user the `k` others that share most items with her; the values say how many.

        See :func:`~mmgraph_robust.sparse.cooccurrence_graph`.
        """
        return self._operator(f"users_{k}", lambda: cooccurrence_graph(self.interactions, k))

    @property
    def user_degree(self) -> Tensor:
        """``[num_users]`` number of training interactions."""
        return self.interactions.degree()

    @property
    def item_degree(self) -> Tensor:
        """``[num_items]`` number of training interactions."""
        return self.interactions.t().degree()

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device (itself where all of it is there already)."""
        parts = (self.interactions, *self.item_graphs.values(), *self.latent_graphs.values())
        if all(is_on(part.device, device) for part in parts):
            return self
        item, latent = (
            {name: adj.to(device) for name, adj in graphs.items()} for graphs in (self.item_graphs, self.latent_graphs)
        )
        return Graph(self.interactions.to(device), item, latent, self.seed, self.search)

    def _operator(self, name: str, make: Callable[[], Adjacency]) -> Adjacency:
        if name not in self._operators:
            self._operators[name] = make()
        return self._operators[name]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_users={self.num_users}, num_items={self.num_items}, "
            f"num_interactions={self.interactions.num_edges}, item_graphs={sorted(self.item_graphs)})"
        )
