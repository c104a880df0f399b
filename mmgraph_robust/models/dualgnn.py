"""DualGNN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import Linear, bpr_loss
from mmgraph_robust.nn.init import reset_linear, xavier_normal
from mmgraph_robust.sparse import attention_product, spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, unit_rows


class DualGNN(Recommender):
    r"""`"DualGNN: Dual Graph Neural Network for Multimedia Recommendation"
    <https://doi.org/10.1109/TMM.2021.3138298>`_ (Wang et al., TMM 2021): one graph network per modality on the
    user-item graph, each user's own weight for every modality, and a second graph of users who chose the same items.

    .. math::
        X_m = \mathrm{rownorm}([P_m ; MLP_m(F_m)]), \qquad [U_m ; I_m] = \sum_{l=0}^{L} \hat{A}^l X_m, \qquad
        u = \sum_m w_{um} u_m, \qquad
        \hat{u} = u + \sum_{v \in N(u)} \mathrm{softmax}_v(c_{uv})\, v, \qquad \hat{i} = \sum_m i_m

    with :math:`\hat{A} = D^{-1/2} A D^{-1/2}` and :math:`N(u)` the users who share most training items with :math:`u`,
    :math:`c_{uv}` of them. The channel of modality :math:`m` pairs :math:`\hat{u}` with :math:`i_m`. There is no ``id``
    channel.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the preferences and of what the networks put out.
        hidden_dim: Width of the hidden layer (leaky ReLU) of the networks' :math:`MLP`.
        num_layers: Hops :math:`L` on the user-item graph.
        user_k: Neighbours per user, at most, on the graph of users.
        reg: Weight of the mean squares of the batch's preferences and of all :math:`w`.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the port to the widely used toolbox, including its ranking loss
    :math:`-\frac{1}{B} \sum \log_2 \sigma(s_{ui} - s_{uj})`; the default of `reg` is DRAGON's published best.
    Deliberate differences: modalities are not mixed up (there the first is overwritten by the sum), the graph of users
    is computed as a sparse product, a user with fewer neighbours has fewer (there they are repeated at random), and
    item weights that only the regulariser of the port knows are left out: they have no part in any score.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "hidden_dim": Categorical([128, 256, 512]),
        "num_layers": Int(1, 3),
        "user_k": Int(10, 80),
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
        user_k: int = 40,
        reg: float = 1e-3,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim, hidden_dim=hidden_dim, user_k=user_k)
        self._check_counts(0, num_layers=num_layers)
        self._check_sizes(reg=reg)
        self._check_modalities()
        self.num_layers = num_layers
        self.user_k = user_k
        self.reg = reg
        self.preference = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(num_users, embedding_dim)) for m in self.modalities}
        )
        self.user_weight = torch.nn.Parameter(torch.empty(num_users, len(self.modalities)))
        self.mlp = torch.nn.ModuleDict(
            {
                m: torch.nn.Sequential(Linear(dim, hidden_dim), torch.nn.LeakyReLU(), Linear(hidden_dim, embedding_dim))
                for m, dim in self.feature_dims.items()
            }
        )
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        for name in self.modalities:
            xavier_normal(self.preference[name], generator)
            first, _, last = cast(torch.nn.Sequential, self.mlp[name])
            reset_linear(cast(Linear, first), generator)
            reset_linear(cast(Linear, last), generator)
        xavier_normal(self.user_weight, generator)
        with torch.no_grad():
            self.user_weight.copy_(self.user_weight.softmax(dim=1))

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with one channel per modality."""
        users, items = self._branches(features, graph)
        user = self._with_neighbours(sum_tensors(list(users.values())), graph)
        return Embeddings(dict.fromkeys(items, user), items)

    def _branches(self, features: Features, graph: Graph) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Users, weighted, and items per modality."""
        features = self.read(features)
        users: dict[str, Tensor] = {}
        items: dict[str, Tensor] = {}
        for index, name in enumerate(self.modalities):
            x = unit_rows(torch.cat([self.preference[name], self.mlp[name](features[name])]))
            layers = [x]
            for _ in range(self.num_layers):
                x = spmm(graph.bipartite_sym, x)
                layers.append(x)
            user, items[name] = sum_tensors(layers).split([self.num_users, self.num_items])
            users[name] = self.user_weight[:, index : index + 1] * user
        return users, items

    def _with_neighbours(self, user: Tensor, graph: Graph) -> Tensor:
        similar = graph.user_graph(self.user_k)
        message, _ = attention_product(similar, similar.values(), user)
        return user + message

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Mean squares of the batch's preferences and of all users' weights."""
        preferences = [F.embedding(batch.user, p).square().mean() for p in self.preference.values()]
        return self.reg * (sum_tensors(preferences) + self.user_weight.square().mean())

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """BPR with the binary logarithm, plus the regulariser."""
        positive = embeddings.scores(batch.user, batch.positive)
        negative = embeddings.scores(batch.user, batch.negative)
        return bpr_loss(positive, negative) / math.log(2) + self.regularization(embeddings, batch)
