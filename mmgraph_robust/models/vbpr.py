"""VBPR, matrix factorisation with content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.models.encoders import LinearEncoder
from mmgraph_robust.nn import batch_norms
from mmgraph_robust.nn.init import xavier_uniform
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, matmul


class VBPR(Recommender):
    r"""`"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_
    (He and McAuley, AAAI 2016), with any number of modalities.

    .. math::
        s(u, i) = \langle p_u, q_i \rangle + \sum_m \langle r_u, W_m x^m_i \rangle

    The score is linear in each modality.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of :math:`p, q` and of :math:`r`.
        reg: Weight of :math:`(\Vert U_b \Vert_F + \Vert I_b \Vert_F + \Vert J_b \Vert_F) / B` on the batch's vectors.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the paper in the form of the widely used toolbox (one projection of the concatenated
    features, un-squared norms). The projection's bias is left out: it is the same for all items, so it cancels in
    every ranking and in the loss.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "reg": Float(1e-3, 10.0, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        reg: float = 1.0,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim)
        self._check_sizes(reg=reg)
        self._check_modalities()
        self.embedding_dim = embedding_dim
        self.reg = reg
        self.user = torch.nn.Parameter(torch.empty(num_users, 2 * embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(dim, embedding_dim)) for m, dim in self.feature_dims.items()}
        )
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user, generator)
        xavier_uniform(self.item_id, generator)
        # Xavier-normal of the one projection that the blocks are cut from.
        std = (2.0 / (sum(self.feature_dims.values()) + self.embedding_dim)) ** 0.5
        for weight in self.projection.values():
            torch.nn.init.normal_(weight, 0.0, std, generator=generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality."""
        features = self.read(features)
        user_id, user_content = self.user.split(self.embedding_dim, dim=1)
        user = {"id": user_id} | dict.fromkeys(self.modalities, user_content)
        item = {"id": self.item_id} | {m: matmul(features[m], self.projection[m]) for m in self.modalities}
        return Embeddings(user, item)

    def item_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor]:
        """The projection of the rows: no other item nor any user has a part in it."""
        projection = self.projection[modality]
        return LinearEncoder(
            lambda rows: matmul(self._as_read(rows, modality, items), projection), self._scaled(projection, modality)
        )

    def row_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor]:
        """The projection of the rows: nothing else follows one, so that it is in full."""
        return VBPR.item_encoder(self, modality, items, features, embeddings, graph)

    def linear_projection(self, modality: str) -> Tensor | None:
        """The block of the projection that the modality is multiplied with, times its scale."""
        self.check_modality(modality)
        return self._scaled(self.projection[modality], modality)

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Norms of the batch's user vectors and fused item vectors."""
        user, item = embeddings.concatenated()
        return self.reg * batch_norms(user, item, batch.ids)
