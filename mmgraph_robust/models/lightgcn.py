"""LightGCN, the control that no feature attack can touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.nn import LightPropagation, batch_norms
from mmgraph_robust.nn.init import xavier_uniform
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int


class LightGCN(Recommender):
    r"""`"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ (He et al., SIGIR 2020): ids, propagated over the user-item graph.

    It reads no item features, so no attack on features changes it. That is immunity by abstention, not robustness:
    the floor that any claim about a multi-modal model has to be compared with.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Accepted for the common interface and ignored.
        embedding_dim: Width of the embeddings.
        num_layers: Number of hops.
        reg: Weight of :math:`(\Vert U_b \Vert_F + \Vert I_b \Vert_F + \Vert J_b \Vert_F) / B` on the ids of the batch.
        seed: Seed of the initial parameters.

    Source: the equations of the paper; the regulariser is the un-squared norm of the widely used toolbox.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "none"

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 4),
        "reg": Float(1e-6, 1e-2, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        reg: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(num_users, num_items, {}, seed=seed)
        self._check_counts(embedding_dim=embedding_dim)
        self._check_counts(0, num_layers=num_layers)
        self._check_sizes(reg=reg)
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.propagation = LightPropagation(num_layers)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the one channel ``id``."""
        x = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_sym)
        user, item = x.split([self.num_users, self.num_items])
        return Embeddings({"id": user}, {"id": item})

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Norms of the batch's ids."""
        return self.reg * batch_norms(self.user_id, self.item_id, batch.ids)
