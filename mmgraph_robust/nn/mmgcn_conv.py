"""MMGCN's layer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.nn.init import reset_linear, xavier_normal
from mmgraph_robust.nn.inputs import GraphInput, as_adjacency, is_compiled
from mmgraph_robust.nn.linear import Linear
from mmgraph_robust.sparse import Adjacency, spmm
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.utils import Checked, matmul


class MMGCNConv(Checked, torch.nn.Module):
    r"""One layer of `"MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video"
    <https://doi.org/10.1145/3343031.3351034>`_ (Wei et al., MM 2019).

    .. math::
        h_i = \phi\Big(\frac{1}{|N(i)|} \sum_{j \in N(i)} W x_j\Big), \qquad
        \hat{x}_i = \phi(L x_i) + e_i, \qquad
        x'_i = \begin{cases} \phi(G [h_i \Vert \hat{x}_i]) & \text{concat} \\
        \phi(G h_i + \hat{x}_i) & \text{add} \end{cases}

    with :math:`\phi` a leaky ReLU of slope 0.01 and :math:`e_i` the id embedding that all modalities share.

    Args:
        in_channels: Width of the input features.
        out_channels: Width of the id embeddings and of the output.
        combine: How the neighbourhood and the node itself are put together.

    Shapes:
        - **input:** features ``[num_nodes, in_channels]``, the graph as ``edge_index [2, num_edges]``, a sparse matrix
          or a row-normalised :class:`~mmgraph_robust.sparse.Adjacency`, id embeddings ``[num_nodes, out_channels]``
        - **output:** ``[num_nodes, out_channels]``
    """

    def __init__(self, in_channels: int, out_channels: int, combine: Literal["concat", "add"] = "concat") -> None:
        super().__init__()
        self._check_counts(in_channels=in_channels, out_channels=out_channels)
        if combine not in ("concat", "add"):
            raise ConfigError(f"'{type(self).__name__}' expects combine 'concat' or 'add' (got '{combine}')")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.combine = combine
        self.weight = torch.nn.Parameter(torch.empty(in_channels, in_channels))
        self.lin_self = Linear(in_channels, out_channels)
        fused = in_channels + out_channels if combine == "concat" else in_channels
        self.lin_out = Linear(fused, out_channels)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws new weights."""
        xavier_normal(self.weight, generator)
        reset_linear(self.lin_self, generator)
        xavier_normal(self.lin_self.weight, generator)
        reset_linear(self.lin_out, generator)

    def forward(self, x: Tensor, edge_index: GraphInput, ids: Tensor) -> Tensor:
        """One round of messages."""
        check_tensor("x", x, ("num_nodes", self.in_channels), self.weight.device, self)
        check_tensor("ids", ids, (x.size(0), self.out_channels), x.device, self)
        adjacency = as_adjacency(edge_index, x.size(0), x.size(0))
        if not is_compiled(edge_index):
            adjacency = adjacency.normalize("row")
        return self.put_together(self.message(x, adjacency), self.own(x, ids))

    def message(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        r"""What the neighbours send, :math:`\frac{1}{|N(i)|} \sum_j W x_j`; linear in `x`."""
        return spmm(adjacency, matmul(x, self.weight))

    def own(self, x: Tensor, ids: Tensor) -> Tensor:
        r"""The part of the node itself, :math:`\hat{x}_i`."""
        return F.leaky_relu(self.lin_self(x)) + ids

    def put_together(self, message: Tensor, own: Tensor) -> Tensor:
        r"""The output, from the neighbours' message and the part of the node itself."""
        h = F.leaky_relu(message)
        if self.combine == "concat":
            return F.leaky_relu(self.lin_out(torch.cat([h, own], dim=1)))
        return F.leaky_relu(self.lin_out(h) + own)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, combine='{self.combine}')"
