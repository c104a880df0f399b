"""DRAGON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.models.dualgnn import DualGNN
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.models.weights import modality_weights
from mmgraph_robust.nn import FrozenItemGraph
from mmgraph_robust.sparse import spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int


class DRAGON(DualGNN):
    r"""`"Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation"
    <https://arxiv.org/abs/2301.12097>`_ (Zhou et al., ECAI 2023): the branches of
    :class:`~mmgraph_robust.models.DualGNN`, concatenated rather than summed, with a graph of users and a frozen graph
    of similar items.

    .. math::
        u = [w_{u1} u_1 \Vert \dots \Vert w_{uM} u_M], \qquad
        \hat{u} = u + \sum_{v \in N(u)} \mathrm{softmax}_v(c_{uv})\, v, \qquad
        i = [i_1 \Vert \dots \Vert i_M], \qquad \hat{i} = i + (G^n I)_i

    with :math:`G = \sum_m w_m G_m` of :class:`~mmgraph_robust.nn.FrozenItemGraph`. The channel of modality :math:`m` is
    block :math:`m` of both concatenations; through :math:`G`, which carries no gradient, features of one modality also
    choose the neighbours for the others.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the preferences and of every block.
        hidden_dim: Width of the hidden layer (leaky ReLU) of the branches.
        num_layers: Hops on the user-item graph.
        num_item_layers: Hops :math:`n` on the item graph.
        user_k: Neighbours per user, at most, on the graph of users.
        knn_k: Neighbours per item and modality, the item itself included.
        weights: Weight :math:`w_m` per modality in the item graph (default: the paper's 0.1 for ``visual`` and 0.9 for
            ``textual`` where the modalities are these two, else equal weights that sum to 1).
        reg: Weight of the mean squares of the batch's preferences and of all :math:`w_u`.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`; the item graph reads the features without
            the trainable part.
        seed: Seed of the initial parameters.

    Source: the equations of the port to the widely used toolbox, whose best `reg` is 1e-3 on Baby and Sports and 0.1 on
    Clothing, with the deliberate differences of :class:`~mmgraph_robust.models.DualGNN`.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "hidden_dim": Categorical([128, 256, 512]),
        "num_layers": Int(1, 3),
        "num_item_layers": Int(1, 2),
        "user_k": Int(10, 80),
        "knn_k": Int(5, 20),
        "reg": Float(1e-5, 1e-1, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        hidden_dim: int = 256,
        num_layers: int = 2,
        num_item_layers: int = 1,
        user_k: int = 40,
        knn_k: int = 10,
        weights: Mapping[str, float] | None = None,
        reg: float = 1e-3,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            feature_dims,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            user_k=user_k,
            reg=reg,
            feature_scale=feature_scale,
            trainable_features=trainable_features,
            seed=seed,
        )
        self._check_counts(num_item_layers=num_item_layers, knn_k=knn_k)
        self.num_item_layers = num_item_layers
        self.knn_k = knn_k
        self.weights = modality_weights(type(self).__name__, self.modalities, weights)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with one channel per modality."""
        users, items = self._branches(features, graph)
        similar = {m: FrozenItemGraph.normalized(a) for m, a in self.item_graphs(features, graph).items()}
        # All blocks at once, and one product per modality: a joint graph would be sorted anew in every step.
        x = h = torch.cat(list(items.values()), dim=1)
        for _ in range(self.num_item_layers):
            h = sum_tensors([self.weights[m] * spmm(adjacency, h) for m, adjacency in similar.items()])
        blocks = (x + h).chunk(len(items), dim=1)
        return Embeddings(
            {name: self._with_neighbours(x, graph) for name, x in users.items()}, dict(zip(items, blocks, strict=True))
        )
