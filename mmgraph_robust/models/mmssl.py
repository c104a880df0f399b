"""MMSSL without its generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import Linear, batch_squares
from mmgraph_robust.nn.init import xavier_linears, xavier_uniform
from mmgraph_robust.nn.noise import seeded_dropout
from mmgraph_robust.sparse import spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, matmul, unit_rows


class MMSSL(Recommender):
    r"""`"Multi-Modal Self-Supervised Learning for Recommendation" <https://arxiv.org/abs/2302.10632>`_ (Wei et al.,
    WWW 2023) **in its generator-free form**: ids and modalities, passed between users and items; the ids are contrasted
    with what their neighbours say.

    The full model also trains a generator against a discriminator on whole rows of predicted interactions, and draws
    from it a user-item graph per modality, anew during training. That state is neither parameter, feature nor
    interaction, so the forward pass would be no function of what this library's attacks and defenses may change, and
    the rows are dense. Here every modality's graph stays the one that the full model starts from, the training
    interactions :math:`R`:

    .. math::
        f_m^U = D_u^{-1/2} R\, (X_m W_m + b_m), \qquad f_m^I = D_i^{-1/2} R^\top f_m^U, \qquad
        c_U = D_u^{-1/2} R\, Q, \qquad c_I = D_i^{-1/2} R^\top P

    .. math::
        U^{(0)} = P + \eta\, \mathrm{rownorm}(c_U W), \quad I^{(0)} = Q + \eta\, \mathrm{rownorm}(c_I W), \qquad
        U^{(l+1)} = D_u^{-1/2} R\, I^{(l)}, \quad I^{(l+1)} = D_i^{-1/2} R^\top U^{(l+1)}

    .. math::
        \hat{u} = \frac{1}{L + 1} \sum_l U_u^{(l)} + r \sum_m \mathrm{rownorm}(f_m^U)_u, \qquad
        \hat{i} = \frac{1}{L + 1} \sum_l I_i^{(l)} + r \sum_m \mathrm{rownorm}(f_m^I)_i

    Attention over modalities that all see one graph weighs them equally whatever its queries and keys, so of its maps
    only the one after it, :math:`W`, is left. The loss is BPR with half the squares of the batch's final vectors and of
    all :math:`f`, and the contrast of :math:`c_u` with :math:`\hat{u}`, once for each modality, over the distinct users
    of the batch:

    .. math::
        -\frac{1}{B} \sum_b \log \frac{e^{\cos(c_b, \hat{u}_b) / \tau}}
        {\sum_a e^{\cos(c_b, \hat{u}_a) / \tau} + \sum_{a \ne b} e^{\cos(c_b, c_a) / \tau}}

    The channel of modality :math:`m` pairs :math:`\hat{u}` with :math:`r\, \mathrm{rownorm}(f_m^I)_i`, the channel
    ``id`` with the mean of the :math:`I_i^{(l)}`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of ids and of projected features.
        num_layers: Hops :math:`L` of the ids.
        id_rate: Weight :math:`\eta` of the neighbours' ids.
        feature_rate: Weight :math:`r` of the modalities.
        dropout: Share of the entries of projected features that a training step sets to zero.
        temperature: :math:`\tau`.
        contrast: Weight of the contrast.
        feature_reg: Weight of half the summed squares of all :math:`f`, per item.
        reg: Weight of half the summed squares of the batch's final vectors, per triple.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the paper without the generator; the rates and weights that are their defaults were not
    checked against the official code. Deliberate differences: the softmax that the code puts on the columns of the last
    layer of ids is in no equation and left out;
    projections start Xavier-uniform with zero biases.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "id_rate": Float(0.01, 1.0),
        "feature_rate": Float(0.01, 1.0),
        "dropout": Float(0.0, 0.5),
        "temperature": Float(0.05, 1.0, log=True),
        "contrast": Float(1e-4, 1e-1, log=True),
        "reg": Float(1e-7, 1e-3, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        id_rate: float = 0.36,
        feature_rate: float = 0.55,
        dropout: float = 0.2,
        temperature: float = 0.5,
        contrast: float = 0.03,
        feature_reg: float = 1e-5,
        reg: float = 1e-5,
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
        self._check_rates(id_rate=id_rate, feature_rate=feature_rate, temperature=temperature)
        self._check_sizes(contrast=contrast, feature_reg=feature_reg, reg=reg)
        self._check(dropout=(0 <= dropout < 1, "from 0 to below 1", dropout))
        self._check_modalities()
        self.num_layers = num_layers
        self.id_rate = id_rate
        self.feature_rate = feature_rate
        self.dropout = dropout
        self.temperature = temperature
        self.contrast = contrast
        self.feature_reg = feature_reg
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ModuleDict({m: Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()})
        self.attended = Linear(embedding_dim, embedding_dim, bias=False)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        xavier_linears(self, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality; what the loss reads of users and items beside."""
        extra = {"neighbours": _to_users(graph, self.item_id)}
        user, item = self._ids(extra["neighbours"], graph)
        items = {"id": item}
        users = [user]
        for name, x in self.read(features).items():
            x = seeded_dropout(self.projection[name](x), self.dropout, graph.generator(f"dropout_{name}"))
            extra[f"user_{name}"] = _to_users(graph, x)
            extra[f"item_{name}"] = _to_items(graph, extra[f"user_{name}"])
            users.append(self.feature_rate * unit_rows(extra[f"user_{name}"]))
            items[name] = self.feature_rate * unit_rows(extra[f"item_{name}"])
        return Embeddings(dict.fromkeys(items, sum_tensors(users)), items, extra)

    def _ids(self, neighbours: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        user = self.user_id + self.id_rate * unit_rows(self.attended(neighbours))
        item = self.item_id + self.id_rate * unit_rows(self.attended(_to_items(graph, self.user_id)))
        users, items = [user], [item]
        for _ in range(self.num_layers):
            users.append(_to_users(graph, items[-1]))
            items.append(_to_items(graph, users[-1]))
        return sum_tensors(users) / len(users), sum_tensors(items) / len(items)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The whole graph, with a seed for the dropout of the step."""
        return graph.with_seed(int(torch.randint(1 << 62, (), generator=generator)))

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Squares of the batch's final vectors and of all features, and the contrast of the batch's users."""
        kinds = [f"{side}_{name}" for side in ("user", "item") for name in self.modalities]
        content = sum_tensors([embeddings.extra[kind].square().sum() for kind in kinds])
        total = self.reg * batch_squares(*embeddings.concatenated(), batch.ids)
        total = total + self.feature_reg * content / (2 * self.num_items)
        if self.contrast == 0:
            return total
        rows = torch.unique(batch.user)
        neighbours = F.embedding(rows, embeddings.extra["neighbours"])
        # All channels have the same users.
        contrast = self._contrast(neighbours, F.embedding(rows, embeddings.user["id"]))
        return total + self.contrast * len(self.modalities) * contrast

    def _contrast(self, neighbours: Tensor, user: Tensor) -> Tensor:
        left, right = unit_rows(neighbours), unit_rows(user)
        between = matmul(left, right.t()) / self.temperature
        own = torch.eye(len(left), dtype=torch.bool, device=left.device)
        within = (matmul(left, left.t()) / self.temperature).masked_fill(own, -torch.inf)
        return (torch.cat([between, within], dim=1).logsumexp(1) - between.diagonal()).mean()


def _to_users(graph: Graph, x: Tensor) -> Tensor:
    return spmm(graph.interactions, x) * graph.user_degree.clamp(min=1).unsqueeze(1).rsqrt().to(x.dtype)


def _to_items(graph: Graph, x: Tensor) -> Tensor:
    return spmm(graph.interactions.t(), x) * graph.item_degree.clamp(min=1).unsqueeze(1).rsqrt().to(x.dtype)
