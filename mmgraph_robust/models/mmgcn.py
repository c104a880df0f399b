"""MMGCN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import MMGCNConv, batch_mean_squares
from mmgraph_robust.nn.init import reset_linear, xavier_normal
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int


class MMGCN(Recommender):
    r"""`"MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video"
    <https://doi.org/10.1145/3343031.3351034>`_ (Wei et al., MM 2019): one graph network per modality on the user-item
    graph, users with a learned preference per modality, ids shared by all; the mean over modalities ranks.

    .. math::
        X_m^{(0)} = \mathrm{rownorm}([P_m ; F_m]), \qquad X_m^{(l+1)} = \mathrm{MMGCNConv}_l(X_m^{(l)}, A, E), \qquad
        s(u, i) = \Big\langle \frac{1}{M} \sum_m x_u^m,\ \frac{1}{M} \sum_m x_i^m \Big\rangle

    The channel of modality :math:`m` pairs the fused user with :math:`x_i^m / M`. There is no ``id`` channel: ids act
    inside every branch.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids and of every layer's output.
        num_layers: Number of layers.
        combine: How a layer puts neighbourhood and node together.
        hidden_dim: Width that projected modalities enter the first layer with.
        project: Modalities that get a linear map to `hidden_dim` first (default: those wider than it).
        reg: Weight of the mean squares of the batch's ids and of the preferences.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code, with these deliberate differences: preferences and ids are
    trained (there they are plain tensors that never move), `combine` and `num_layers` are honoured, all preferences
    enter the regulariser (there those of one modality), the maps :math:`G_l` start from torch's uniform default (there
    Xavier-normal), and scores are computed anew after every step.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "combine": Categorical(["concat", "add"]),
        "hidden_dim": Categorical([128, 256, 512]),
        "reg": Float(1e-7, 1e-2, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        combine: Literal["concat", "add"] = "concat",
        hidden_dim: int = 256,
        project: Sequence[str] | None = None,
        reg: float = 1e-5,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(num_users, num_items, feature_dims, trainable_features=trainable_features, seed=seed)
        self._check(
            embedding_dim=(embedding_dim >= 1, ">= 1", embedding_dim),
            num_layers=(num_layers >= 1, ">= 1", num_layers),
            hidden_dim=(hidden_dim >= 1, ">= 1", hidden_dim),
            reg=(reg >= 0, ">= 0", reg),
        )
        self._check_modalities()
        for name in project or ():
            self.check_modality(name)
        self.reg = reg
        self.id = torch.nn.Parameter(torch.empty(num_users + num_items, embedding_dim))
        self.projection = torch.nn.ModuleDict()
        self.preference = torch.nn.ParameterDict()
        self.convs = torch.nn.ModuleDict()
        for name, dim in self.feature_dims.items():
            width = dim
            if name in project if project is not None else dim > hidden_dim:
                width = hidden_dim
                self.projection[name] = torch.nn.Linear(dim, hidden_dim)
            self.preference[name] = torch.nn.Parameter(torch.empty(num_users, width))
            widths = [width] + [embedding_dim] * (num_layers - 1)
            self.convs[name] = torch.nn.ModuleList([MMGCNConv(w, embedding_dim, combine) for w in widths])
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_normal(self.id, generator)
        for name in self.modalities:
            xavier_normal(self.preference[name], generator)
            if name in self.projection:
                reset_linear(cast(torch.nn.Linear, self.projection[name]), generator)
            for conv in cast(torch.nn.ModuleList, self.convs[name]):
                cast(MMGCNConv, conv).reset_parameters(generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with one channel per modality."""
        features = self.read(features)
        branches: dict[str, Tensor] = {}
        for name in self.modalities:
            x = features[name]
            if name in self.projection:
                x = self.projection[name](x)
            x = F.normalize(torch.cat([self.preference[name], x]), dim=1)
            for conv in cast(torch.nn.ModuleList, self.convs[name]):
                x = conv(x, graph.bipartite_mean, self.id)
            branches[name] = x / len(self.modalities)
        user = sum_tensors([x[: self.num_users] for x in branches.values()])
        return Embeddings(dict.fromkeys(branches, user), {name: x[self.num_users :] for name, x in branches.items()})

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Mean squares of the batch's ids and of all preferences."""
        ids = batch_mean_squares(self.id, self.num_users, batch.ids)
        preferences = sum_tensors([p.square().mean() for p in self.preference.values()])
        return self.reg * (ids + preferences)
