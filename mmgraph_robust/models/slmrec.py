"""SLMRec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.nn import LightPropagation, Linear, info_nce
from mmgraph_robust.nn.init import xavier_linears, xavier_uniform
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, matmul, row_lengths


class SLMRec(Recommender):
    r"""`"Self-supervised Learning for Multimedia Recommendation" <https://doi.org/10.1109/TMM.2022.3187556>`_ (Tao et
    al., TMM 2022) with its feature-alignment task FAC: ids and every modality are propagated over the user-item graph,
    each beside the same user ids, and a linear map fuses what comes out.

    .. math::
        [u_c ; i_c] = \mathrm{LightGCN}([P ; X_c]), \quad X_{id} = Q, \quad
        X_m = W_m\, \mathrm{rownorm}(F_m) + b_m, \qquad
        \hat{u} = W_U [u_{id} \Vert u_1 \Vert \dots \Vert u_M] + b_U, \qquad
        \hat{i} = W_I [i_{id} \Vert i_1 \Vert \dots \Vert i_M] + b_I

    It is trained on the batch's users and positives alone, the other positives serving as negatives of
    :math:`NCE_\tau(L, R) = -\frac{1}{B} \sum_b \log \mathrm{softmax}_c (\langle l_b, r_c \rangle / \tau)_{c = b}`:

    .. math::
        \mathcal L = NCE_\tau(\mathrm{rownorm}(\hat{u}), \mathrm{rownorm}(\hat{i}))
        + \alpha \big[ NCE_{\tau'}(s_1, B_1 i_1) + \sum_{1 < m < M} NCE_{\tau'}(s_m, B_m i_m)
        + NCE_{\tau'}(C s_M, E i_M) \big]

    with :math:`s_1 = A i_{id}` and :math:`s_m = D_m s_{m-1}` but :math:`s_M = s_{M-1}` for :math:`M > 2`; :math:`C, E`
    halve the width. The channel of modality :math:`m` pairs :math:`\hat{u}` with the block of :math:`W_I` for
    :math:`m`, applied to :math:`i_m`; the channel ``id`` pairs it with :math:`W_I^{id} i_{id} + b_I`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality. The last one is aligned in the coarser space.
        embedding_dim: Width of ids, branches and fused vectors.
        num_layers: Hops on the user-item graph.
        temperature: :math:`\tau` of the ranking loss.
        alignment: Weight :math:`\alpha` of the alignment task.
        alignment_temperature: :math:`\tau'` of the alignment task.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`; with `trainable_features` only.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code and of its port to the widely used toolbox, whose search covers
    :math:`\alpha` from 0.01 to 1 and :math:`\tau'` from 0.1 to 1 with a weight decay of 1e-4 (an argument of
    :func:`mmgraph_robust.fit`). With two modalities the port maps by :math:`D` before :math:`C`, with three the
    official code aligns the middle one after :math:`D`; any number is chained likewise here, and one modality is
    aligned with the ids alone. Deliberate differences: linear maps start Xavier-uniform with zero biases; :math:`B, E`
    have no bias, which would cancel in the softmax; scores are the dot products (there their sigmoid, which ranks the
    same), computed anew for every evaluation.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 4),
        "temperature": Float(0.05, 1.0, log=True),
        "alignment": Float(1e-3, 1.0, log=True),
        "alignment_temperature": Float(0.05, 1.0, log=True),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        temperature: float = 0.2,
        alignment: float = 0.05,
        alignment_temperature: float = 0.1,
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
        self._check_rates(temperature=temperature, alignment_temperature=alignment_temperature)
        self._check_sizes(alignment=alignment)
        self._check_modalities()
        self._refuse_scale(self.modalities)
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self.alignment = alignment
        self.alignment_temperature = alignment_temperature
        count = len(self.modalities)
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ModuleDict({m: Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()})
        self.fuse_user = Linear((count + 1) * embedding_dim, embedding_dim)
        self.fuse_item = Linear((count + 1) * embedding_dim, embedding_dim)
        self.propagation = LightPropagation(num_layers)
        # Without the task its maps would be parameters that never move.
        self.align = torch.nn.ModuleDict(_alignment_maps(count, embedding_dim) if alignment > 0 else {})
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        xavier_linears(self, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality; the branches' items beside them."""
        features = self.read(features)
        inputs: dict[str, Tensor] = {"id": self.item_id}
        for name in self.modalities:
            linear = cast(Linear, self.projection[name])
            # Normalised after the product, which spares a copy of the features.
            size = row_lengths(features[name])
            inputs[name] = matmul(features[name], linear.weight.t()) / size + linear.bias
        users: dict[str, Tensor] = {}
        items: dict[str, Tensor] = {}
        for name, x in inputs.items():
            nodes = self.propagation(torch.cat([self.user_id, x]), graph.bipartite_sym)
            users[name], items[name] = nodes.split([self.num_users, self.num_items])
        user = self.fuse_user(torch.cat(list(users.values()), dim=1))
        blocks = self.fuse_item.weight.split(self.embedding_dim, dim=1)
        item = {name: matmul(items[name], block.t()) for name, block in zip(items, blocks, strict=True)}
        item["id"] = item["id"] + self.fuse_item.bias
        return Embeddings(dict.fromkeys(item, user), item, items)

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """InfoNCE of users and their positives, and of the branches of the positives; no negatives are read."""
        all_users, all_items = embeddings.concatenated()
        user, item = F.embedding(batch.user, all_users), F.embedding(batch.positive, all_items)
        total = info_nce(user, item, self.temperature) + self.regularization(embeddings, batch)
        if self.alignment == 0:
            return total
        return total + self.alignment * self._align(embeddings, batch.positive)

    def _align(self, embeddings: Embeddings, rows: Tensor) -> Tensor:
        branch = {name: F.embedding(rows, x) for name, x in embeddings.extra.items()}
        first, *others = self.modalities
        shared = self.align["shared_0"](branch["id"])
        total = self._match(shared, self.align["fine_0"](branch[first]))
        for index, name in enumerate(others[:-1], start=1):
            shared = self.align[f"shared_{index}"](shared)
            total = total + self._match(shared, self.align[f"fine_{index}"](branch[name]))
        if others:
            if len(others) == 1:
                shared = self.align["shared_1"](shared)
            last = self.align["coarse"](branch[others[-1]])
            total = total + self._match(self.align["shared_coarse"](shared), last)
        return total

    def _match(self, left: Tensor, right: Tensor) -> Tensor:
        """As :func:`~mmgraph_robust.nn.info_nce`, but on dot products."""
        logits = matmul(left, right.t()) / self.alignment_temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _alignment_maps(num_modalities: int, dim: int) -> dict[str, torch.nn.Module]:
    """A (``shared_0``), the others' D (``shared_<n>``) and B (``fine_<n>``), and C and E of the coarser space."""
    last = num_modalities - 1
    maps: dict[str, torch.nn.Module] = {}
    for index in range(max(last, 1)):
        # A bias of the right side adds the same to all logits of a row, which the softmax takes away again.
        maps[f"shared_{index}"], maps[f"fine_{index}"] = Linear(dim, dim), Linear(dim, dim, bias=False)
    if last == 1:
        maps["shared_1"] = Linear(dim, dim)
    if last > 0:
        half = max(dim // 2, 1)
        maps["shared_coarse"], maps["coarse"] = Linear(dim, half), Linear(dim, half, bias=False)
    return maps
