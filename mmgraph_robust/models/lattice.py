"""LATTICE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import LatentItemGraph, LightPropagation, batch_squares
from mmgraph_robust.nn.init import xavier_uniform
from mmgraph_robust.sparse import Adjacency, spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, row_lengths


class LATTICE(Recommender):
    r"""`"Mining Latent Structures for Multimedia Recommendation" <https://arxiv.org/abs/2104.09036>`_ (Zhang et al.,
    MM 2021): ids, propagated over a latent graph of similar items, are added to those of collaborative filtering.

    .. math::
        h = S^n Q, \qquad \hat{i} = i_{CF} + \mathrm{rownorm}(h), \qquad s(u, i) = \langle \hat{u}, \hat{i} \rangle

    with :math:`S` of :class:`~mmgraph_robust.nn.LatentItemGraph`. Features reach the score through :math:`S` only. It
    is a sum over modalities, :math:`S = \sum_m S^{(m)}`, so the score is too: the channel of modality :math:`m` pairs
    :math:`\hat{u}` with :math:`S^{(m)} S^{n-1} Q / \Vert h \Vert`, the channel ``id`` pairs it with :math:`i_{CF}`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids.
        hidden_dim: Width of the projections that the learned graph is searched in.
        num_layers: Hops on the user-item graph.
        num_item_layers: Hops :math:`n` on the item graph.
        knn_k: Neighbours per item, the item itself included.
        skip: Share :math:`\lambda` of the graph of the features as they came.
        collaborative: ``"lightgcn"`` (propagation with self loops over :math:`D^{-1}(A + I)`, mean of the layers) or
            ``"mf"`` (none).
        refresh_every: Training steps between two refreshes of the learned graph, counted from the start of each epoch;
            a refresh carries gradients to the projections and the modality weights, the steps between use its result as
            constants. 0 refreshes once an epoch, as the official code does. Constants follow no features, so a defense
            that changes them needs 1: every forward pass then learns the graph from the features that it is given.
            :func:`~mmgraph_robust.training.fit` says so rather than training on the clean ones. The share `skip`, the
            graph of the features as they came, stays what it was compiled from, unless `fit` is given
            ``graph=Graph.from_data(data)``, of which every pass builds that one anew, too.
        reg: Weight of half the summed squares of the batch's final vectors, per triple.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`; only the learned graph reads the trainable
            part.
        seed: Seed of the initial parameters.

    Source: the equations of the official code, with these deliberate differences: the graphs are sparse from the
    start, rows whose cosines sum to zero or less send and receive nothing (there: NaN), the regulariser is divided by
    the triples of the batch, also of the last short one, and the learned graph is built anew for every evaluation, from
    the features that it is given. It follows them where the item graph of a threat model is frozen, too: frozen is the
    graph of the features as they came.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "graph"

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "hidden_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "num_item_layers": Int(1, 2),
        "knn_k": Int(5, 20),
        "skip": Float(0.0, 1.0),
        "reg": Float(1e-7, 1e-2, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        hidden_dim: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        knn_k: int = 10,
        skip: float = 0.9,
        collaborative: Literal["lightgcn", "mf"] = "lightgcn",
        refresh_every: int = 0,
        reg: float = 1e-5,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(
            embedding_dim=embedding_dim, num_item_layers=num_item_layers, hidden_dim=hidden_dim, knn_k=knn_k
        )
        self._check_counts(0, num_layers=num_layers, refresh_every=refresh_every)
        self._check_sizes(reg=reg)
        self._check(
            skip=(0 <= skip <= 1, "from 0 to 1", skip),
            collaborative=(collaborative in ("lightgcn", "mf"), "'lightgcn' or 'mf'", collaborative),
        )
        self._check_modalities()
        self.knn_k = knn_k
        self.num_item_layers = num_item_layers
        self.refresh_every = refresh_every
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        # A catalogue smaller than k has no k neighbours.
        self.latent = LatentItemGraph(self.feature_dims, hidden_dim, min(knn_k, num_items), skip)
        self.propagation = LightPropagation(num_layers if collaborative == "lightgcn" else 0)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        self.latent.reset_parameters(generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality."""
        similar = graph.latent_graphs or self._latent_graphs(features, graph)
        x = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_walk)
        user, item = x.split([self.num_users, self.num_items])
        h: Tensor = self.item_id
        for _ in range(self.num_item_layers - 1):
            h = sum_tensors([spmm(adjacency, h) for adjacency in similar.values()])
        parts = {name: spmm(adjacency, h) for name, adjacency in similar.items()}
        # F.normalize's own bound, so that the parts sum to its result.
        size = row_lengths(sum_tensors(list(parts.values())))
        content = {name: part / size for name, part in parts.items()}
        return Embeddings(dict.fromkeys(["id", *content], user), {"id": item} | content)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The graph with the learned item graph of the last refresh, in which gradients flow at the refresh itself."""
        if self.refresh_every == 1:
            return graph
        due = previous is None if self.refresh_every == 0 else step % self.refresh_every == 0
        if previous is None or due:
            return graph.with_latent_graphs(self._latent_graphs(features, graph))
        if not any(a.values().requires_grad for a in previous.latent_graphs.values()):
            return previous
        return graph.with_latent_graphs(
            {m: a.with_value(a.values().detach()) for m, a in previous.latent_graphs.items()}
        )

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Half the squares of the batch's final vectors, per triple."""
        return self.reg * batch_squares(*embeddings.concatenated(), batch.ids)

    def _latent_graphs(self, features: Features, graph: Graph) -> dict[str, Adjacency]:
        original = {}
        if self.latent.skip > 0:  # else nobody reads the graph of the raw features
            original = {name: a.normalize("gcn") for name, a in self.item_graphs(features, graph).items()}
        return self.latent.by_modality(self.read(features), original, graph.search)
