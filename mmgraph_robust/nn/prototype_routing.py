"""GRCN's prototypical network."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.nn.inputs import GraphInput, as_adjacency
from mmgraph_robust.sparse import attention_product, sddmm
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.utils import Checked, unit_rows


class PrototypeRouting(Checked, torch.nn.Module):
    r"""Neighbour routing of `"Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit
    Feedback" <https://doi.org/10.1145/3394171.3413556>`_ (Wei et al., MM 2020): a user's preference moves towards the
    items that she interacted with, in proportion to how well they fit it.

    .. math::
        \alpha_{ui} = \mathrm{softmax}_{i \in N(u)} (p_u^\top f_i), \qquad
        p_u \leftarrow \frac{p_u + \sum_i \alpha_{ui} f_i}{\Vert p_u + \sum_i \alpha_{ui} f_i \Vert_2}

    Args:
        num_routings: How often the preference is refined.

    Shapes:
        - **input:** item features ``[num_items, dim]`` and preferences ``[num_users, dim]`` as a pair, the graph as
          ``edge_index`` of (item, user) pairs, or as a sparse matrix or
          :class:`~mmgraph_robust.sparse.Adjacency` of users by items
        - **output:** ``[num_users, dim]``
    """

    def __init__(self, num_routings: int = 3) -> None:
        super().__init__()
        self._check_counts(0, num_routings=num_routings)
        self.num_routings = num_routings

    def forward(self, x: tuple[Tensor, Tensor], edge_index: GraphInput) -> Tensor:
        """Refines the preferences."""
        item, preference = x
        check_tensor("x[0]", item, ("num_items", "dim"), item.device, self)
        check_tensor("x[1]", preference, ("num_users", item.size(1)), item.device, self)
        adjacency = as_adjacency(edge_index, item.size(0), preference.size(0))
        for _ in range(self.num_routings):
            message, _ = attention_product(adjacency, sddmm(adjacency, preference, item), item)
            preference = unit_rows(preference + message)
        return preference

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_routings={self.num_routings})"
