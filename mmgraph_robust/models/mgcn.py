"""MGCN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import LightPropagation, Linear, ModalityFusion, batch_squares, info_nce
from mmgraph_robust.nn.init import reset_linear, xavier_uniform
from mmgraph_robust.sparse import spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int


class MGCN(Recommender):
    r"""`"Multi-View Graph Convolutional Network for Multimedia Recommendation" <https://arxiv.org/abs/2308.03588>`_ (Yu
    et al., MM 2023): features open and close gates on the ids, what passes is propagated over graphs of similar items,
    and behaviour decides how much of each modality counts.

    .. math::
        g_m = Q \odot \sigma(W'_m (W_m x^m + b_m) + b'_m), \qquad I_m = S_m^n\, g_m, \qquad
        V_m = [\hat{A} I_m ; I_m]

    .. math::
        common = \sum_m \alpha_m V_m, \quad \alpha = \mathrm{softmax}_m(q^\top \tanh(W V_m + b)), \qquad
        spec_m = \sigma(W''_m E + b''_m) \odot (V_m - common)

    .. math::
        side = \frac{1}{M + 1} \Big( common + \sum_m spec_m \Big), \qquad
        s(u, i) = \langle E_u + side_u,\ E_i + side_i \rangle

    with :math:`E` from light propagation of the ids, :math:`S_m` the normalised graph of nearest neighbours with
    cosines on its edges and :math:`\hat{A}` that of the interactions. The loss is BPR plus an
    :func:`~mmgraph_robust.nn.info_nce` between :math:`side` and :math:`E` on the users and positive items of the batch.
    Features reach the score through the gates, and through the item graph where it is rebuilt. The channel of modality
    :math:`m` pairs the final user vector with :math:`(spec_{m,i} + \alpha_{m,i} V_{m,i}) / (M + 1)`, the channel ``id``
    pairs it with :math:`E_i`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids.
        num_layers: Hops on the user-item graph.
        num_item_layers: Hops :math:`n` on the item graphs.
        knn_k: Neighbours per item and modality, the item itself included.
        contrast: Weight of the contrastive loss.
        temperature: Its temperature.
        reg: Weight of half the summed squares of the batch's final vectors, per triple.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`; the item graph reads the features without
            the trainable part.
        seed: Seed of the initial parameters.

    Source: the equations of the official code for any number of modalities :math:`M` (there two), with one deliberate
    difference: the regulariser is divided by the triples of the batch, also of the last short one. A single modality is
    its own common view: nothing is specific; attention and gates on behaviour, left out here, would never train.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "num_item_layers": Int(1, 2),
        "knn_k": Int(5, 20),
        "contrast": Float(1e-4, 1e-1, log=True),
        "temperature": Float(0.05, 1.0, log=True),
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
        num_item_layers: int = 1,
        knn_k: int = 10,
        contrast: float = 0.01,
        temperature: float = 0.2,
        reg: float = 1e-4,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim, knn_k=knn_k)
        self._check_counts(0, num_layers=num_layers, num_item_layers=num_item_layers)
        self._check_rates(temperature=temperature)
        self._check_sizes(contrast=contrast, reg=reg)
        self._check_modalities()
        # Without a layer on it, no item graph is read.
        self.knn_k = knn_k if num_item_layers > 0 else None
        self.num_item_layers = num_item_layers
        self.contrast = contrast
        self.temperature = temperature
        self.reg = reg
        d, several = embedding_dim, len(self.modalities) > 1
        self.user_id = torch.nn.Parameter(torch.empty(num_users, d))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, d))
        self.projection = torch.nn.ModuleDict({m: Linear(dim, d) for m, dim in self.feature_dims.items()})
        self.purifier = torch.nn.ModuleDict({m: Linear(d, d) for m in self.modalities})
        self.preference = torch.nn.ModuleDict({m: Linear(d, d) for m in self.modalities if several})
        self.fusion = ModalityFusion("attention", channels=d) if several else None
        self.propagation = LightPropagation(num_layers)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        for linears in (self.projection, self.purifier, self.preference):
            for linear in linears.values():
                reset_linear(cast(torch.nn.Linear, linear), generator)
        if self.fusion is not None:
            self.fusion.reset_parameters(generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality; beside them, both sides' parts for the loss."""
        behaviour = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_sym)
        parts = self._parts(self._views(features, graph), behaviour)
        side = sum_tensors(list(parts.values()))
        sizes = [self.num_users, self.num_items]
        user, item = behaviour.split(sizes)
        side_user, side_item = side.split(sizes)
        final = user + side_user
        content = {name: part[self.num_users :] for name, part in parts.items()}
        extra = {"user": user, "item": item, "side_user": side_user, "side_item": side_item}
        return Embeddings(dict.fromkeys(["id", *content], final), {"id": item} | content, extra)

    def _views(self, features: Features, graph: Graph) -> dict[str, Tensor]:
        """``[num_nodes, embedding_dim]`` per modality: what the gates let pass of the ids, propagated."""
        similar = {m: a.normalize("gcn") for m, a in self.item_graphs(features, graph).items()} if self.knn_k else {}
        views = {}
        for name, x in self.read(features).items():
            view = self.item_id * torch.sigmoid(self.purifier[name](self.projection[name](x)))
            for _ in range(self.num_item_layers):
                view = spmm(similar[name], view)
            views[name] = torch.cat([spmm(graph.interactions_sym, view), view])
        return views

    def _parts(self, views: dict[str, Tensor], behaviour: Tensor) -> dict[str, Tensor]:
        """``[num_nodes, embedding_dim]`` per modality: its part of the side vector."""
        if self.fusion is None:
            return {name: view / 2 for name, view in views.items()}
        stacked = torch.stack(list(views.values()), dim=1)
        shares = self.fusion.importance(stacked) * stacked
        common = shares.sum(dim=1)
        parts = {}
        for index, (name, view) in enumerate(views.items()):
            specific = torch.sigmoid(self.preference[name](behaviour)) * (view - common)
            parts[name] = (specific + shares[:, index]) / (len(views) + 1)
        return parts

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Half the squares of the batch's final vectors, per triple."""
        return self.reg * batch_squares(*embeddings.concatenated(), batch.ids)

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """BPR, its regulariser, and the contrast between side vectors and behaviour."""
        total = super().loss(embeddings, batch, features)
        extra = embeddings.extra
        for rows, kind in ((batch.user, "user"), (batch.positive, "item")):
            side, behaviour = F.embedding(rows, extra[f"side_{kind}"]), F.embedding(rows, extra[kind])
            total = total + self.contrast * info_nce(side, behaviour, self.temperature)
        return total
