"""BPR-MF, the control without graph and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.nn import batch_norms
from mmgraph_robust.nn.init import xavier_uniform
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float


class BPRMF(Recommender):
    r"""`"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ (Rendle et
    al., UAI 2009) on a matrix factorisation, :math:`s(u, i) = \langle p_u, q_i \rangle`.

    It reads neither item features nor the graph: the floor below :class:`~mmgraph_robust.models.LightGCN`, and immune
    to attacks on features by abstention, as that one is.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Accepted for the common interface and ignored.
        embedding_dim: Width of the embeddings.
        reg: Weight of :math:`(\Vert U_b \Vert_F + \Vert I_b \Vert_F + \Vert J_b \Vert_F) / B` on the batch's vectors.
        seed: Seed of the initial parameters.

    Source: the equations of the paper; the regulariser is the un-squared norm of the widely used toolbox, and items
    have no bias there and here.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "none"

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "reg": Float(1e-5, 1.0, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        reg: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(num_users, num_items, {}, seed=seed)
        self._check_counts(embedding_dim=embedding_dim)
        self._check_sizes(reg=reg)
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the one channel ``id``."""
        return Embeddings({"id": self.user_id}, {"id": self.item_id})

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Norms of the batch's vectors."""
        return self.reg * batch_norms(self.user_id, self.item_id, batch.ids)
