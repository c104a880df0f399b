"""GRCN's graph refining layer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn.inputs import GraphInput
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.sparse.checks import check_tensor


class GraphRefining(torch.nn.Module):
    r"""Edge weights of `"Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback"
    <https://doi.org/10.1145/3394171.3413556>`_ (Wei et al., MM 2020): the affinities that each modality sees on an
    edge, weighed by how far the sending node trusts that modality.

    .. math::
        w_{ij} = \mathrm{relu}\big(\max_m \alpha^m_{ij} c_{jm}\big)

    Args:
        reduce: ``"max"`` or ``"mean"`` of the weighed affinities over the modalities.
        pruning: Whether negative weights are cut off by the ReLU (the paper's hard pruning).

    Shapes:
        - **input:** affinities ``[num_edges]`` per modality, confidences ``[num_sources, num_modalities]``, the graph
          as ``edge_index`` or :class:`~mmgraph_robust.sparse.Adjacency` in the edge order of the affinities
        - **output:** ``[num_edges]``
    """

    def __init__(self, reduce: Literal["max", "mean"] = "max", pruning: bool = True) -> None:
        super().__init__()
        if reduce not in ("max", "mean"):
            raise ConfigError(f"'{type(self).__name__}' expects reduce 'max' or 'mean' (got '{reduce}')")
        self.reduce = reduce
        self.pruning = pruning

    def forward(self, affinities: list[Tensor], confidence: Tensor, edge_index: GraphInput) -> Tensor:
        """Combines the affinities of the modalities into one weight per edge."""
        compiled = isinstance(edge_index, Adjacency)
        source = edge_index.col if compiled else edge_index[0]
        num_sources = edge_index.num_cols if compiled else "num_sources"
        for i, affinity in enumerate(affinities):
            check_tensor(f"affinities[{i}]", affinity, (source.numel(),), source.device, self)
        check_tensor("confidence", confidence, (num_sources, len(affinities)), source.device, self)
        if not compiled and bool(((source < 0) | (source >= confidence.size(0))).any()):
            raise DataError(
                f"'edge_index' expects sources from 0 to {confidence.size(0) - 1}, the rows of 'confidence' "
                f"(got {int(source.min())} to {int(source.max())})"
            )
        trust = F.embedding(source, confidence)
        weight = torch.stack(affinities, dim=1) * trust
        weight = weight.max(dim=1).values if self.reduce == "max" else weight.mean(dim=1)
        return weight.relu() if self.pruning else weight

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduce='{self.reduce}', pruning={self.pruning})"
