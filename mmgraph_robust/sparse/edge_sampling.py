"""Which edges stay when some are dropped."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.checks import check_tensor


def sample_edges(
    adj: Adjacency,
    keep: float,
    how: Literal["uniform", "degree"] | Tensor = "uniform",
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draws :math:`\lfloor` keep · num_edges :math:`\rfloor` edges without replacement.

    ``"degree"`` is the degree-sensitive pruning of `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_ (Zhou and Shen, MM 2023): an edge is drawn in
    proportion to :math:`1 / \sqrt{d_i d_j}`, so that edges between popular ends go first. Drawn by exponential keys
    :math:`\mathrm{Exp}(1) / p_{ij}`, of which the smallest stay: the distribution of ``torch.multinomial`` without
    replacement, for any number of edges (multinomial refuses more than :math:`2^{24}`).

    Args:
        adj: The graph.
        keep: Share of the edges that stay, from 0 to 1.
        how: ``"uniform"``, ``"degree"``, or positive weights ``[num_edges]`` to draw in proportion to.
        generator: Source of randomness, on the device of `adj`; torch's global one where it is left out.

    Shapes:
        - **output:** ``[num_edges]`` booleans, to be given to :meth:`Adjacency.select`
    """
    if not 0 <= keep <= 1:
        raise ConfigError(f"'keep' expects a share from 0 to 1 (got {keep})")
    # In float64, since float32 keys of millions of edges would collide.
    key = torch.empty(adj.num_edges, dtype=torch.float64, device=adj.device).exponential_(generator=generator)
    if isinstance(how, Tensor):
        check_tensor("how", how, (adj.num_edges,), adj.device, adj)
        if not bool((how > 0).all()):
            raise DataError(f"'how' expects weights above 0 (got {float(how.min())})")
        key /= how
    elif how == "degree":
        key /= degree_weights(adj)
    elif how != "uniform":
        raise ConfigError(f"'how' expects 'uniform', 'degree' or weights (got '{how}')")
    # The product of a share and a number may fall a hair below a whole number: 0.29 * 100 is 28.999999999999996.
    count = int(keep * adj.num_edges + 1e-9)
    kept = torch.zeros(adj.num_edges, dtype=torch.bool, device=adj.device)
    kept[torch.topk(key, count, largest=False, sorted=False).indices] = True
    return kept


def degree_weights(adj: Adjacency) -> Tensor:
    r"""``[num_edges]`` :math:`1 / \sqrt{d_i d_j}` of the ends of every edge, in float64."""
    row, col = adj.degree().double().rsqrt(), adj.t().degree().double().rsqrt()
    return row[adj.row] * col[adj.col]
