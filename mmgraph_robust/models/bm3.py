"""BM3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.nn import LightPropagation, Linear
from mmgraph_robust.nn.init import xavier_linear, xavier_uniform
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, unit_rows


class BM3(Recommender):
    r"""`"Bootstrap Latent Representations for Multi-modal Recommendation" <https://arxiv.org/abs/2207.05969>`_ (Zhou et
    al., WWW 2023): ids learn to predict what dropout left of themselves, of each other and of the features; there are
    no negative items.

    With :math:`\tilde{u}, \tilde{i}` from light propagation, :math:`Q_i` added to the items, :math:`f^m = W_m x^m +
    b_m`, the predictor :math:`h` (one linear map) and :math:`t(\cdot)` dropout without gradient:

    .. math::
        \mathcal L = C(h(\tilde{u}), t(\tilde{i})) + C(h(\tilde{i}), t(\tilde{u}))
        + w \sum_m \big[ C(h(f^m_i), t(\tilde{i})) + C(h(f^m_i), t(f^m_i)) \big]
        + reg \cdot \frac{\Vert \tilde{U} \Vert_F + \Vert \tilde{I} \Vert_F}{|I|}, \qquad C(a, b) = 1 - \cos(a, b)

    each as a mean over the batch. The score is :math:`\langle h(\tilde{u}), h(\tilde{i}) \rangle`: **no item feature
    reaches it**. Features shape the predictor in training, and the ids through it alone. Whoever perturbs the features
    of the trained model changes nothing; that is no robustness of a multi-modal model.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids.
        num_layers: Number of hops.
        dropout: Share of the targets' entries that dropout sets to zero.
        weight: Weight :math:`w` of the losses on features.
        reg: Weight of the norms of the whole propagated tables.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code. Dropout is drawn anew for each training step from the seed of its graph
    (:attr:`~mmgraph_robust.data.Graph.seed`): one mask for each table, so that an item that occurs twice in a batch has
    one target. On a graph without a seed the targets are whole.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "none"

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "dropout": Float(0.1, 0.7),
        "weight": Float(0.1, 10.0, log=True),
        "reg": Float(1e-4, 1.0, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 1,
        dropout: float = 0.5,
        weight: float = 2.0,
        reg: float = 0.1,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim)
        self._check_counts(0, num_layers=num_layers)
        self._check_sizes(weight=weight, reg=reg)
        self._check(dropout=(0 <= dropout < 1, "from 0 to below 1", dropout))
        self._check_modalities()
        self.dropout = dropout
        self.weight = weight
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ModuleDict({m: Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()})
        self.predictor = Linear(embedding_dim, embedding_dim)
        self.propagation = LightPropagation(num_layers)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        for linear in (*self.projection.values(), self.predictor):
            xavier_linear(cast(torch.nn.Linear, linear), generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the one channel ``id``; beside them, what the loss reads: vectors and masks of dropout."""
        x = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_sym)
        user, item = x.split([self.num_users, self.num_items])
        item = item + self.item_id
        extra = {"user": user, "item": item, "user_mask": self._mask(user, graph, "user")}
        for name in ("item", *(f"x_{m}" for m in self.modalities)):
            extra[f"{name}_mask"] = self._mask(item, graph, name)
        return Embeddings({"id": self.predictor(user)}, {"id": self.predictor(item)}, extra)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The whole graph, with a seed for the dropout of this step."""
        return graph.with_seed(int(torch.randint(1 << 62, (), generator=generator)))

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """How badly ids and features predict their targets, and the norms of the tables."""
        extra = embeddings.extra

        def target(name: str, x: Tensor, rows: Tensor) -> Tensor:
            return x.detach() * F.embedding(rows, extra[f"{name}_mask"])

        user, item = F.embedding(batch.user, extra["user"]), F.embedding(batch.positive, extra["item"])
        item_target = target("item", item, batch.positive)
        total = _distance(F.embedding(batch.user, embeddings.user["id"]), item_target) + _distance(
            F.embedding(batch.positive, embeddings.item["id"]), target("user", user, batch.user)
        )
        for name in self.modalities:
            f = self.projection[name](self.read_rows(features, name, batch.positive))
            predicted = self.predictor(f)
            content = _distance(predicted, item_target) + _distance(predicted, target(f"x_{name}", f, batch.positive))
            total = total + self.weight * content
        return total + self.reg * (extra["user"].norm() + extra["item"].norm()) / self.num_items

    def _mask(self, x: Tensor, graph: Graph, purpose: str) -> Tensor:
        generator = graph.generator(purpose)
        if generator is None or self.dropout == 0:
            return x.new_ones(1, 1).expand(x.shape)
        # Drawn on the CPU, so that the same seed drops the same entries on every device.
        keep = torch.empty(x.shape, dtype=x.dtype).bernoulli_(1 - self.dropout, generator=generator)
        return keep.div_(1 - self.dropout).to(x.device)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # unit_rows: a vector of zeros, which a feature of zeros is projected to at first, has no direction and no gradient.
    return 1 - (unit_rows(a) * unit_rows(b)).sum(1).mean()
