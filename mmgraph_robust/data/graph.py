"""HeteroData compiled once for computing."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import INTERACTS, ITEM, USER, interactions
from mmgraph_robust.sparse import Adjacency


class Graph:
    """The user-item graph of the training interactions as compiled sparse operators. Immutable.

    Attributes:
        num_users: Number of users.
        num_items: Number of items.
        interactions: ``[num_users, num_items]``, an edge per training interaction; its row pointers list a user's
            items, its transpose's an item's users.
        item_graphs: ``[num_items, num_items]`` per modality, from the edge types
            ``('item', 'similar_<modality>', 'item')`` where `data` has them.
    """

    def __init__(self, interactions: Adjacency, item_graphs: dict[str, Adjacency] | None = None) -> None:
        self.interactions = interactions
        self.num_users, self.num_items = interactions.shape
        self.item_graphs = dict(item_graphs or {})

    @classmethod
    def from_data(cls, data: HeteroData) -> Graph:
        """Compiles the training interactions (and item graphs, where there are any) of `data`."""
        num_items = int(data[ITEM].num_nodes)
        train = Adjacency.from_edge_index(
            interactions(data, "train"), num_rows=int(data[USER].num_nodes), num_cols=num_items
        )
        item_graphs = {}
        for source, name, target in data.edge_types:
            if (source, target) == (ITEM, ITEM) and name.startswith("similar_"):
                store = data[source, name, target]
                item_graphs[name.removeprefix("similar_")] = Adjacency.from_edge_index(
                    store.edge_index, num_rows=num_items, num_cols=num_items, values=store.get("edge_weight")
                )
        return cls(train, item_graphs).to(data[INTERACTS].edge_index.device)

    @property
    def num_nodes(self) -> int:
        """Users and items together; in stacked matrices the users come first."""
        return self.num_users + self.num_items

    @property
    def device(self) -> torch.device:
        """Where the operators live."""
        return self.interactions.device

    @cached_property
    def bipartite(self) -> Adjacency:
        """``[num_nodes, num_nodes]``: every training interaction in both directions, users stacked over items."""
        return self.interactions.bipartite()

    @cached_property
    def bipartite_sym(self) -> Adjacency:
        r""":attr:`bipartite` normalised as :math:`D^{-1/2} A D^{-1/2}`."""
        return self.bipartite.normalize("sym")

    @cached_property
    def bipartite_mean(self) -> Adjacency:
        r""":attr:`bipartite` normalised as :math:`D^{-1} A`, the mean over neighbours."""
        return self.bipartite.normalize("row")

    @cached_property
    def user_degree(self) -> Tensor:
        """``[num_users]`` number of training interactions."""
        return self.interactions.degree()

    @cached_property
    def item_degree(self) -> Tensor:
        """``[num_items]`` number of training interactions."""
        return self.interactions.t().degree()

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device (itself where it is there already)."""
        if torch.device(device) == self.device:
            return self
        return Graph(self.interactions.to(device), {name: adj.to(device) for name, adj in self.item_graphs.items()})

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_users={self.num_users}, num_items={self.num_items}, "
            f"num_interactions={self.interactions.num_edges}, item_graphs={sorted(self.item_graphs)})"
        )
