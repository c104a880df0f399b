"""Contrast with a whole table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmgraph_robust.utils import chunks, matmul, unit_rows


def contrast_with_all(
    left: Tensor, right: Tensor, rows: Tensor, temperature: float, *, memory: int = 1 << 24
) -> Tensor:
    r"""A row against its twin in another matrix, among all rows of that matrix:
    :math:`-\sum_{b \in rows} \log \mathrm{softmax}_c (\cos(l_b, r_c) / \tau)_{c = b}`.

    The cosines are computed in blocks, and once more in the backward pass, so that never more than `memory` holds of
    them exist, and none between the two passes.

    Args:
        left: ``[num_nodes, dim]``
        right: ``[num_nodes, dim]``
        rows: ``[batch_size]`` the rows to sum over; repeated ones count each time.
        temperature: :math:`\tau`.
        memory: Bytes for the cosines that are held at a time; blocks that a CPU's cache holds take a third of the time.
    """
    anchor = F.embedding(rows, unit_rows(left)) / temperature
    right = unit_rows(right)
    width = max(1, memory // (4 * max(rows.numel(), 1)))
    blocks = [right[start:stop] for start, stop in chunks(right.size(0), width)]
    # A single block as well: a step has a contrast per pair of modalities and side, whose cosines would add up.
    parts = [checkpoint(_log_sum, anchor, block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    total = torch.stack(parts).logsumexp(0)
    return (total - (anchor * F.embedding(rows, right)).sum(1)).sum()


def _log_sum(anchor: Tensor, block: Tensor) -> Tensor:
    return matmul(anchor, block.t()).logsumexp(1)
