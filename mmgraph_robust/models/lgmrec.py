"""LGMRec."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import LightPropagation, batch_norms, contrast_with_all
from mmgraph_robust.nn.init import xavier_uniform
from mmgraph_robust.nn.noise import seeded_dropout, seeded_gumbel_softmax
from mmgraph_robust.sparse import spmm
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, matmul, row_lengths, unit_rows


class LGMRec(Recommender):
    r"""`"LGMRec: Local and Global Graph Learning for Multimodal Recommendation" <https://arxiv.org/abs/2312.16400>`_
    (Guo et al., AAAI 2024): ids and modalities, propagated over the user-item graph, and a few learned hyperedges per
    modality that connect all users and items.

    .. math::
        [\bar{U} ; \bar{I}] &= \mathrm{LightGCN}([P ; Q]), \qquad
        L_m = \hat{A}^K [D_u^{-1} R F_m W_m ; F_m W_m] \\
        H_m^I &= \mathrm{softmax}\big((F_m V_m + g) / \tau\big), \qquad
        H_m^U = \mathrm{softmax}\big((R F_m V_m + g) / \tau\big) \\
        I_m^{(0)} &= \bar{I}, \qquad I_m^{(l+1)} = H_m^I H_m^{I\top} I_m^{(l)}, \qquad
        U_m^{(l+1)} = H_m^U H_m^{I\top} I_m^{(l)} \\
        \hat{X} &= [\bar{U} ; \bar{I}] + \sum_m \mathrm{rownorm}(L_m)
        + \alpha\, \mathrm{rownorm}\Big(\sum_m [U_m ; I_m]\Big)

    with the interactions :math:`R`, :math:`\hat{A} = D^{-1/2} A D^{-1/2}` and Gumbel noise :math:`g`. The loss is BPR
    with the norms of the batch's vectors and a contrast of the hyperedges' vectors of every pair of modalities, summed
    over the batch's users and positives :math:`b`:

    .. math::
        -\sum_{m < n} \sum_b \log \mathrm{softmax}_{c} \big(\cos(x_b^m, x_c^n) / \tau\big)_{c = b}

    The channel of modality :math:`m` pairs :math:`\hat{u}` with
    :math:`\mathrm{rownorm}(L_m)_i + \alpha I_{m,i} / \Vert \sum_n I_{n,i} \Vert`, the channel ``id`` with
    :math:`\bar{I}_i`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of ids and of projected features.
        num_layers: Hops of the ids on the user-item graph.
        num_modality_layers: Hops :math:`K` of the modalities there.
        num_hyper_layers: Hops over the hyperedges.
        num_hyperedges: Hyperedges per modality.
        keep: Share of the nodes' ties to hyperedges that a training step keeps.
        alpha: Weight :math:`\alpha` of what the hyperedges say.
        temperature: :math:`\tau` of both softmaxes.
        contrast: Weight of the contrast.
        reg: Weight of :math:`(\Vert U_b \Vert_F + \Vert I_b \Vert_F + \Vert J_b \Vert_F) / B` on the final vectors.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code, with the hyper-parameters of its log for Baby as defaults.
    Deliberate difference: Gumbel noise and dropout exist in training only, drawn from the step's seed, so evaluation is
    deterministic (there test scores are noisy as well). More than two modalities are contrasted pair by pair, a single
    one is not; the contrast among all users or items is computed in blocks.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "num_modality_layers": Int(1, 3),
        "num_hyper_layers": Int(1, 4),
        "num_hyperedges": Categorical([4, 16, 64]),
        "keep": Float(0.1, 1.0),
        "alpha": Float(0.0, 1.0),
        "contrast": Float(1e-6, 1e-2, log=True),
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
        num_modality_layers: int = 2,
        num_hyper_layers: int = 1,
        num_hyperedges: int = 4,
        keep: float = 0.5,
        alpha: float = 0.3,
        temperature: float = 0.2,
        contrast: float = 1e-4,
        reg: float = 1e-6,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(
            embedding_dim=embedding_dim, num_hyper_layers=num_hyper_layers, num_hyperedges=num_hyperedges
        )
        self._check_counts(0, num_layers=num_layers, num_modality_layers=num_modality_layers)
        self._check_rates(temperature=temperature)
        self._check_sizes(alpha=alpha, contrast=contrast, reg=reg)
        self._check(keep=(0 < keep <= 1, "above 0, at most 1", keep))
        self._check_modalities()
        self.embedding_dim = embedding_dim
        self.num_modality_layers = num_modality_layers
        self.num_hyper_layers = num_hyper_layers
        self.num_hyperedges = num_hyperedges
        self.keep = keep
        self.alpha = alpha
        self.temperature = temperature
        self.contrast = contrast
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.projection = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(dim, embedding_dim)) for m, dim in self.feature_dims.items()}
        )
        self.hyperedge = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(dim, num_hyperedges)) for m, dim in self.feature_dims.items()}
        )
        self.propagation = LightPropagation(num_layers)
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        for name in self.modalities:
            xavier_uniform(self.projection[name], generator)
            xavier_uniform(self.hyperedge[name], generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with the channel ``id`` and one per modality; the hyperedges' vectors of all nodes beside them."""
        features = self.read(features)
        sizes = [self.num_users, self.num_items]
        ids = self.propagation(torch.cat([self.user_id, self.item_id]), graph.bipartite_sym)
        id_user, id_item = ids.split(sizes)
        local: dict[str, Tensor] = {}
        hyper: dict[str, Tensor] = {}
        for name in self.modalities:
            # One pass over the features, which may be wide, for both maps.
            both = matmul(features[name], torch.cat([self.projection[name], self.hyperedge[name]], dim=1))
            x, ties = both.split([self.embedding_dim, self.num_hyperedges], dim=1)
            local[name] = self._propagate(x, graph)
            hyper[name] = self._hypergraph(name, ties, id_item, graph)
        total = sum_tensors(list(hyper.values()))
        # F.normalize's own bound, so that the parts sum to its result.
        scale = self.alpha / row_lengths(total)
        content = {name: local[name] + scale * hyper[name] for name in self.modalities}
        user = sum_tensors([id_user, *(x[: self.num_users] for x in content.values())])
        item = {"id": id_item} | {name: x[self.num_users :] for name, x in content.items()}
        return Embeddings(dict.fromkeys(item, user), item, hyper)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The whole graph, with a seed for the noise and the dropout of the step."""
        return graph.with_seed(int(torch.randint(1 << 62, (), generator=generator)))

    def _propagate(self, x: Tensor, graph: Graph) -> Tensor:
        mean = spmm(graph.interactions, x) / graph.user_degree.clamp(min=1).unsqueeze(1).to(x.dtype)
        nodes = torch.cat([mean, x])
        for _ in range(self.num_modality_layers):
            nodes = spmm(graph.bipartite_sym, nodes)
        return unit_rows(nodes)

    def _hypergraph(self, name: str, ties: Tensor, item: Tensor, graph: Graph) -> Tensor:
        """Users over items: what they receive from the hyperedges of a modality."""
        nodes = torch.cat([spmm(graph.interactions, ties), ties])
        nodes = seeded_gumbel_softmax(nodes, self.temperature, graph.generator(f"gumbel_{name}"))
        nodes = seeded_dropout(nodes, 1 - self.keep, graph.generator(f"dropout_{name}"))
        of_users, of_items = nodes.split([self.num_users, self.num_items])
        user = item
        for _ in range(self.num_hyper_layers):
            edges = of_items.t() @ item
            user, item = of_users @ edges, of_items @ edges
        return torch.cat([user, item])

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Norms of the batch's final vectors, and the contrast of the modalities' hyperedges."""
        total = self.reg * batch_norms(*embeddings.concatenated(), batch.ids)
        if self.contrast == 0:
            return total
        sides = [x.split([self.num_users, self.num_items]) for x in embeddings.extra.values()]
        for left, right in itertools.combinations(sides, 2):
            for side, rows in enumerate((batch.user, batch.positive)):
                total = total + self.contrast * contrast_with_all(left[side], right[side], rows, self.temperature)
        return total
