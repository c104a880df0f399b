"""GRCN's graph refining layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn.inputs import GraphInput, is_compiled
from mmgraph_robust.sparse.checks import check_tensor


class GraphRefining(torch.nn.Module):
    r"""Edge weights of `"Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback"
    <https://doi.org/10.1145/3394171.3413556>`_ (Wei et al., MM 2020): the affinities that each modality sees on an
    edge, weighed by how far the sending node trusts that modality.

    .. math::
        w_{ij} = \begin{cases} \mathrm{relu}\big(\max_m \alpha^m_{ij} c_{jm}\big) & \text{confidence} \\
        \max_m \alpha^m_{ij} & \text{max} \\ \frac{1}{M} \sum_m \alpha^m_{ij} & \text{mean} \end{cases}

    Args:
        mode: Which; the last two know no confidence.
        pruning: Whether negative weights are cut off by the ReLU (the paper's hard pruning; without it, its soft one).

    Shapes:
        - **input:** affinities ``[num_edges]`` per modality, the graph as ``edge_index`` or
          :class:`~mmgraph_robust.sparse.Adjacency` in the edge order of the affinities, for mode ``confidence`` the
          confidences ``[num_sources, num_modalities]``
        - **output:** ``[num_edges]``
    """

    def __init__(self, mode: Literal["confidence", "max", "mean"] = "confidence", pruning: bool = True) -> None:
        super().__init__()
        if mode not in ("confidence", "max", "mean"):
            raise ConfigError(f"'{type(self).__name__}' expects mode 'confidence', 'max' or 'mean' (got '{mode}')")
        self.mode = mode
        self.pruning = pruning

    def forward(self, affinities: list[Tensor], edge_index: GraphInput, confidence: Tensor | None = None) -> Tensor:
        """Combines the affinities of the modalities into one weight per edge."""
        if not affinities:
            raise DataError("'affinities' expects one or more modalities (got none)")
        compiled = is_compiled(edge_index)
        source = edge_index.col if compiled else edge_index[0]
        for i, affinity in enumerate(affinities):
            check_tensor(f"affinities[{i}]", affinity, (source.numel(),), source.device, self)
        weight = torch.stack(affinities, dim=1)
        if self.mode == "confidence":
            if confidence is None:
                raise DataError(f"'{type(self).__name__}' expects confidences for mode 'confidence' (got None)")
            num_sources = edge_index.num_cols if compiled else "num_sources"
            check_tensor("confidence", confidence, (num_sources, len(affinities)), source.device, self)
            if not compiled and bool(((source < 0) | (source >= confidence.size(0))).any()):
                raise DataError(
                    f"'edge_index' expects sources from 0 to {confidence.size(0) - 1}, the rows of 'confidence' "
                    f"(got {int(source.min())} to {int(source.max())})"
                )
            # Column by column, since the backward pass of a gather of narrow rows costs ten times as much.
            trust = [column.index_select(0, source) for column in confidence.unbind(1)]
            weight = weight * torch.stack(trust, dim=1)
        weight = weight.mean(dim=1) if self.mode == "mean" else weight.max(dim=1).values
        return weight.relu() if self.pruning else weight

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode='{self.mode}', pruning={self.pruning})"
