"""GRCN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import GraphRefining, Linear, PrototypeRouting, batch_mean_squares
from mmgraph_robust.nn.init import reset_linear, xavier_normal
from mmgraph_robust.sparse import Adjacency, attention_product, sddmm, spmm
from mmgraph_robust.sparse.slices import cut_rows
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, unit_rows


class GRCN(Recommender):
    r"""`"Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback"
    <https://doi.org/10.1145/3394171.3413556>`_ (Wei et al., MM 2020): content decides how much each interaction is
    worth, ids are propagated over the graph refined so.

    Per modality, items :math:`f = \mathrm{rownorm}(\phi(W x + b))` and users, whose preferences
    :math:`p` are routed towards their items (:class:`~mmgraph_robust.nn.PrototypeRouting`), attend to each other:

    .. math::
        out = [p ; f] + A([p ; f]), \qquad \alpha_{ij} = \mathrm{softmax}_{j \in N(i)} (x_i^\top x_j)

    The affinities of all modalities give the edge weights :math:`w` (:class:`~mmgraph_robust.nn.GraphRefining`) that
    ids are propagated with, :math:`id = \sum_{l=0}^{L} A_w^l\, \mathrm{rownorm}(E)`. The score is the dot product of

    .. math::
        \begin{cases} [id \Vert out^1 \Vert \dots \Vert out^M] & \text{concat} \\
        \frac{1}{M + 1} \big(id + \sum_m out^m\big) & \text{mean} \\ id & \text{id} \end{cases}

    with one channel for the ids and one per modality: of ``concat`` the blocks, of ``mean`` the fused user with
    :math:`id_i / (M + 1)` and :math:`out_i^m / (M + 1)`, of ``id`` the ids alone. Features reach the ``id`` channel as
    well, through the edge weights.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of ids and of every modality's vectors.
        num_layers: Number of hops of the ids.
        num_routings: Rounds of prototype routing.
        weighting: How affinities of several modalities become one edge weight
            (:class:`~mmgraph_robust.nn.GraphRefining`); ``"confidence"`` is the paper's.
        pruning: Whether negative edge weights are cut off (hard pruning; the official runs take soft pruning, without).
        fusion: How ids and modalities become one vector.
        routing: ``"paper"``, or ``"compat"``, which leaves the users' preferences as they are: what both public codes
            compute, where routing's messages land on items (default: that of `variant`).
        reg: Weight of the mean squares of the batch's ids and preferences.
        variant: ``"paper"``, or ``"mmrec"`` for the behaviour that the published tables rest on: `routing` is
            ``"compat"``, the linear maps start Xavier-normal, and the mean square of all users' preferences of
            ``visual`` (of the first modality without one) is added to the regulariser.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code, with these deliberate differences: routing reaches users (there
    its messages land on items and the users' part is zero), the logarithm of the loss cannot overflow, and scores are
    computed anew after every step.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "num_routings": Int(1, 5),
        "weighting": Categorical(["confidence", "max", "mean"]),
        "fusion": Categorical(["concat", "mean", "id"]),
        "pruning": Categorical([True, False]),
        "reg": Float(1e-7, 1e-2, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_routings: int = 3,
        weighting: Literal["confidence", "max", "mean"] = "confidence",
        pruning: bool = True,
        fusion: Literal["concat", "mean", "id"] = "concat",
        routing: Literal["paper", "compat"] | None = None,
        reg: float = 1e-5,
        variant: Literal["paper", "mmrec"] = "paper",
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
        self._check_sizes(reg=reg)
        self._check(
            fusion=(fusion in ("concat", "mean", "id"), "'concat', 'mean' or 'id'", fusion),
            routing=(routing in ("paper", "compat", None), "'paper' or 'compat'", routing),
            variant=(variant in ("paper", "mmrec"), "'paper' or 'mmrec'", variant),
        )
        self._check_modalities()
        if routing is None:
            routing = "paper" if variant == "paper" else "compat"
        self.fusion = fusion
        self.variant = variant
        self.reg = reg
        self.num_layers = num_layers
        self.id = torch.nn.Parameter(torch.empty(num_users + num_items, embedding_dim))
        if weighting == "confidence":
            self.confidence = torch.nn.Parameter(torch.empty(num_users + num_items, len(self.modalities)))
        self.preference = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(num_users, embedding_dim)) for m in self.modalities}
        )
        linears = {m: Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()}
        self.projection = torch.nn.ModuleDict(linears)
        self.routing = PrototypeRouting(num_routings if routing == "paper" else 0)
        self.refining = GraphRefining(weighting, pruning)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_normal(self.id, generator)
        if self.refining.mode == "confidence":
            xavier_normal(self.confidence, generator)
        for name in self.modalities:
            linear = cast(torch.nn.Linear, self.projection[name])
            xavier_normal(self.preference[name], generator)
            reset_linear(linear, generator)
            if self.variant == "mmrec":
                xavier_normal(linear.weight, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and, but for fusion ``id``, one per modality."""
        features = self.read(features)
        to_user = graph.interactions
        to_item = to_user.t()
        user: dict[str, Tensor] = {}
        item: dict[str, Tensor] = {}
        user_affinities, item_affinities = [], []
        inner: dict[str, Tensor] = {}
        for name in self.modalities:
            p = unit_rows(self.preference[name])
            f = self._project(features[name], name)
            p = self.routing((f, p), to_user)
            if torch.is_grad_enabled():  # else nobody keeps them, so they are not kept here either
                inner |= {f"item_{name}": f, f"user_{name}": p}
            # The affinity is symmetric; only the softmax differs by direction.
            dots = sddmm(to_user, p, f)
            user_message, user_affinity = attention_product(to_user, dots, f)
            item_message, item_affinity = attention_product(to_item, dots.index_select(0, to_user.permutation), p)
            user_affinities.append(user_affinity)
            item_affinities.append(item_affinity)
            user[name], item[name] = p + user_message, f + item_message
        id_user, id_item = self._propagate_ids(to_user, to_item, user_affinities, item_affinities)
        if self.fusion == "id":
            return Embeddings({"id": id_user}, {"id": id_item})
        user, item = {"id": id_user} | user, {"id": id_item} | item
        if self.fusion == "concat":
            return Embeddings(user, item, inner)
        fused = sum_tensors(list(user.values())) / len(user)
        return Embeddings(dict.fromkeys(user, fused), {name: x / len(item) for name, x in item.items()}, inner)

    def _project(self, x: Tensor, name: str) -> Tensor:
        # Under autocast the map gives half precision, and ids stay in full.
        return unit_rows(F.leaky_relu(self.projection[name](x)).to(self.preference[name].dtype))

    def item_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor]:
        """Users of the items are routed anew, along all their edges; then they send to the items.

        Neither other modalities nor ids have a part in the channel of a modality, nor do users send to other users.
        """
        if f"item_{modality}" not in embeddings.extra:
            return super().item_encoder(modality, items, features, embeddings, graph)
        # Cutting sorts nothing where the rows are in order.
        ordered, order = items.sort()
        back = order.argsort()
        to_item, users = cut_rows(graph.interactions.t(), ordered)
        to_user, senders = cut_rows(graph.interactions, users, keep=ordered)
        place = torch.searchsorted(senders, ordered)
        known = embeddings.extra[f"item_{modality}"].index_select(0, senders)
        preference = unit_rows(self.preference[modality].index_select(0, users))

        def encode(rows: Tensor) -> Tensor:
            f = self._project(self._as_read(rows, modality, items), modality).index_select(0, order)
            p = self.routing((known.index_copy(0, place, f), preference), to_user)
            return self._attended(f, p, to_item, embeddings).index_select(0, back)

        return encode

    def row_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor] | None:
        """The users stay where this step has routed them; the items attend to them anew."""
        if f"user_{modality}" not in embeddings.extra:
            return None
        ordered, order = items.sort()
        back = order.argsort()
        to_item, users = cut_rows(graph.interactions.t(), ordered)
        p = embeddings.extra[f"user_{modality}"].index_select(0, users)

        def encode(rows: Tensor) -> Tensor:
            f = self._project(self._as_read(rows, modality, items), modality).index_select(0, order)
            return self._attended(f, p, to_item, embeddings).index_select(0, back)

        return encode

    def _attended(self, f: Tensor, p: Tensor, to_item: Adjacency, embeddings: Embeddings) -> Tensor:
        """The vectors in their channel of some items, from their projected features and their users' preferences."""
        message, _ = attention_product(to_item, sddmm(to_item, f, p), p)
        return (f + message) / (len(embeddings.channels) if self.fusion == "mean" else 1)

    def _propagate_ids(
        self, to_user: Adjacency, to_item: Adjacency, user_affinities: list[Tensor], item_affinities: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        trust: tuple[Tensor | None, ...] = (None, None)
        if self.refining.mode == "confidence":
            trust = self.confidence.split([self.num_users, self.num_items])
        user_weight = self.refining(user_affinities, to_user, trust[1])
        item_weight = self.refining(item_affinities, to_item, trust[0])
        user, item = unit_rows(self.id).split([self.num_users, self.num_items])
        users, items = [user], [item]
        for _ in range(self.num_layers):
            user, item = spmm(to_user, item, user_weight), spmm(to_item, user, item_weight)
            users.append(user)
            items.append(item)
        return sum_tensors(users), sum_tensors(items)

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Mean squares of the batch's ids and of its users' preferences."""
        ids = batch_mean_squares(self.id, self.num_users, batch.ids)
        preferences = sum_tensors([F.embedding(batch.user, p).square().mean() for p in self.preference.values()])
        total = ids + preferences
        if self.variant == "mmrec":
            first = "visual" if "visual" in self.modalities else self.modalities[0]
            total = total + self.preference[first].square().mean()
        return self.reg * total
