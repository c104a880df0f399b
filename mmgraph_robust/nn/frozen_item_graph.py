"""FREEDOM's item graph."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.sparse import Adjacency, SoftGraph, knn_graph
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Checked


class FrozenItemGraph(Checked, torch.nn.Module):
    r"""The frozen item graph of `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
    Recommendation" <https://arxiv.org/abs/2211.06924>`_ (Zhou and Shen, MM 2023): nearest neighbours by cosine per
    modality, every edge of the same weight, the modalities blended by fixed weights.

    .. math::
        G = \sum_m w_m D_m^{-1/2} A_m D_m^{-1/2}, \qquad
        (A_m)_{ij} = \begin{cases} 1 & j \in \mathrm{top}_k \cos(x^m_i, \cdot) \\ 0 & \text{else} \end{cases}

    It has no parameters and no gradient: edges are chosen, and each weighs :math:`w_m / k` whatever the features. Items
    whose features are all zero have no neighbours and are nobody's.

    Args:
        k: Neighbours per item and modality, the item itself included.
        weights: Weight per modality (default: equal weights that sum to 1; the paper takes 0.1 for images and 0.9 for
            texts).

    Shapes:
        - **input:** ``{modality: [num_items, dim]}``
        - **output:** an :class:`~mmgraph_robust.sparse.Adjacency` ``[num_items, num_items]``; an edge that several
          modalities share is there once for each
    """

    def __init__(self, k: int = 10, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self._check_counts(k=k)
        for name, weight in (weights or {}).items():
            if not 0 <= weight < math.inf:
                raise ConfigError(
                    f"'{type(self).__name__}' expects weights >= 0 and finite (got {weight} for '{name}')"
                )
        self.k = k
        self.weights = None if weights is None else dict(weights)

    @torch.no_grad()
    def forward(self, x_dict: Features) -> Adjacency:
        """Builds the graph from the features of all modalities."""
        if not x_dict:
            raise ConfigError(f"'{type(self).__name__}' expects features of one or more modalities (got none)")
        weights = self.weights
        if weights is None:
            weights = dict.fromkeys(x_dict, 1.0 / len(x_dict))
        for name in set(weights) ^ set(x_dict):
            raise ConfigError(
                f"weights and features differ: {unknown_name('modality', name, set(weights) & set(x_dict))}"
            )
        graphs = []
        first = next(iter(x_dict.values()))
        for name, x in x_dict.items():
            check_tensor(f"x_dict['{name}']", x, (first.size(0), "dim"), first.device, self)
            graph = self.normalized(knn_graph(x, self.k))
            graphs.append(graph.with_value(graph.values() * weights[name]))
        return Adjacency.sum(graphs)

    @staticmethod
    def normalized(graph: Adjacency) -> Adjacency:
        """The graph of one modality, unweighted: every edge the same, whatever its cosine.

        But for items without a feature, which have a cosine of zero with every item, themselves included: their
        neighbours would be the first of the catalogue, so they have none and are nobody's.
        """
        cosine = graph.cosine if isinstance(graph, SoftGraph) else graph.values()
        plain = graph.unweighted()
        known = torch.zeros(graph.num_rows, dtype=torch.bool, device=graph.device)
        known[graph.row[cosine != 0].long()] = True
        if not bool(known.all()):
            both = known[graph.row.long()] & known[graph.col.long()]
            plain = plain.with_value(plain.values(cosine.dtype) * both)
        return plain.normalize("gcn")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k}, weights={self.weights})"
