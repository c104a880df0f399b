"""FREEDOM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.models.weights import modality_weights
from mmgraph_robust.nn import FrozenItemGraph, LightPropagation, Linear, bpr_loss
from mmgraph_robust.nn.init import reset_linear, xavier_uniform
from mmgraph_robust.sparse import sample_edges, spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int


class FREEDOM(Recommender):
    r"""`"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation"
    <https://arxiv.org/abs/2211.06924>`_ (Zhou and Shen, MM 2023): ids, propagated over a user-item graph that is pruned
    anew for every epoch of training, and over a frozen graph of similar items.

    .. math::
        h = G^n Q, \qquad G = \sum_m w_m G_m, \qquad \hat{i} = i_{CF} + h, \qquad
        \mathcal L = BPR(\hat{u}, \hat{i}, \hat{j})
        + reg \cdot \sum_m BPR(\hat{u}, W_m x^m_i + b_m, W_m x^m_j + b_m)

    with :math:`G` of :class:`~mmgraph_robust.nn.FrozenItemGraph`. Features reach the score through the choice of
    neighbours only: **no gradient leads there**, and a frozen graph hides every attack. The channel of modality
    :math:`m` pairs :math:`\hat{u}` with :math:`w_m G_m G^{n-1} Q`, the channel ``id`` with :math:`i_{CF}`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids.
        num_layers: Hops on the user-item graph.
        num_item_layers: Hops :math:`n` on the item graph.
        knn_k: Neighbours per item and modality, the item itself included.
        weights: Weight :math:`w_m` per modality (default: the paper's 0.1 for ``visual`` and 0.9 for ``textual`` where
            the modalities are these two, else equal weights that sum to 1).
        dropout: Share of the interactions that an epoch leaves out, preferring those between popular ends.
        reg: Weight of the ranking losses on the projected features, which the score does not use.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`; the item graph reads the features without
            the trainable part.
        seed: Seed of the initial parameters.

    Source: the equations of the official code, with these deliberate differences: features are constants unless
    `trainable_features`, and edges are drawn by exponential keys, for any number of them.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "graph"

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "num_item_layers": Int(1, 2),
        "knn_k": Int(5, 20),
        "dropout": Float(0.0, 0.9),
        "reg": Float(1e-5, 1e-1, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        knn_k: int = 10,
        weights: Mapping[str, float] | None = None,
        dropout: float = 0.8,
        reg: float = 1e-3,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim, num_item_layers=num_item_layers, knn_k=knn_k)
        self._check_counts(0, num_layers=num_layers)
        self._check_sizes(reg=reg)
        self._check(dropout=(0 <= dropout < 1, "from 0 to below 1", dropout))
        self._check_modalities()
        self.weights = modality_weights(type(self).__name__, self.modalities, weights)
        self.knn_k = knn_k
        self.num_item_layers = num_item_layers
        self.dropout = dropout
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ModuleDict({m: Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()})
        self.propagation = LightPropagation(num_layers)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        for linear in self.projection.values():
            reset_linear(linear, generator)  # type: ignore[arg-type]

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality."""
        similar = {m: FrozenItemGraph.normalized(a) for m, a in self.item_graphs(features, graph).items()}
        x = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_sym)
        user, item = x.split([self.num_users, self.num_items])
        h: Tensor = self.item_id
        for _ in range(self.num_item_layers):
            content = {m: self.weights[m] * spmm(adjacency, h) for m, adjacency in similar.items()}
            h = sum_tensors(list(content.values()))
        return Embeddings(dict.fromkeys(["id", *content], user), {"id": item} | content)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The graph of an epoch: some interactions are left out, the degrees are those of the rest."""
        if previous is not None:
            return previous
        # Drawn on the CPU, so that the same seed leaves out the same edges on every device.
        keep = sample_edges(graph.interactions.to("cpu"), 1 - self.dropout, "degree", generator=generator)
        return graph.with_interactions(graph.interactions.select(keep.to(graph.device)))

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """BPR on the scores, and on the projected features of the batch's items."""
        total = super().loss(embeddings, batch, features)
        if self.reg == 0:
            return total
        user = F.embedding(batch.user, embeddings.user["id"])
        rows, place = torch.unique(torch.cat([batch.positive, batch.negative]), return_inverse=True)
        for name in self.modalities:
            projected = F.embedding(place, self.projection[name](self.read_rows(features, name, rows)))
            positive, negative = (user.repeat(2, 1) * projected).sum(1).split(len(batch))
            total = total + self.reg * bpr_loss(positive, negative)
        return total
