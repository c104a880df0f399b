"""Contrast with a whole table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.utils import chunks, matmul, unit_rows


def contrast_with_all(
    left: Tensor, right: Tensor, rows: Tensor, temperature: float, *, memory: int = 1 << 24
) -> Tensor:
    r"""A row against its twin in another matrix, among all rows of that matrix:
    :math:`-\sum_{b \in rows} \log \mathrm{softmax}_c (\cos(l_b, r_c) / \tau)_{c = b}`.

    The cosines are computed in blocks, and once more in the backward pass, so that never more than `memory` holds of
    them exist, and none between the two passes.

    Args:
        left: ``[num_nodes, dim]``, at least one node.
        right: ``[num_nodes, dim]``
        rows: ``[batch_size]`` the rows to sum over; repeated ones count each time.
        temperature: :math:`\tau`, above 0.
        memory: Bytes for the cosines that are held at a time; blocks that a CPU's cache holds take a third of the time.

    Raises:
        DataError: If the matrices differ in shape or have no rows.
        ConfigError: If `temperature` is not above 0.
    """
    check_pair(left, right, temperature)
    anchor = F.embedding(rows, unit_rows(left)) / temperature
    right = unit_rows(right)
    width = max(1, memory // (4 * max(rows.numel(), 1)))
    blocks = [right[start:stop] for start, stop in chunks(right.size(0), width)]
    # A single block as well: a step has a contrast per pair of modalities and side, whose cosines would add up.
    parts = [checkpoint(_log_sum, anchor, block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    total = torch.stack(parts).logsumexp(0)
    return (total - (anchor * F.embedding(rows, right)).sum(1)).sum()


def check_pair(left: Tensor, right: Tensor, temperature: float) -> None:
    """Sees that two matrices can be held against each other, row by row.

    Args:
        left: ``[n, dim]``
        right: ``[n, dim]``
        temperature: What their cosines are divided by.

    Raises:
        DataError: If they differ in shape or have no rows.
        ConfigError: If `temperature` is not above 0.
    """
    if left.shape != right.shape or left.dim() != 2 or left.size(0) == 0:
        found = f"{list(left.shape)} and {list(right.shape)}"
        raise DataError(f"'left' and 'right' expect one shape [n, dim] with one or more rows (got {found})")
    if not temperature > 0:
        raise ConfigError(f"'temperature' expects a number > 0 (got {temperature})")


def _log_sum(anchor: Tensor, block: Tensor) -> Tensor:
    return matmul(anchor, block.t()).logsumexp(1)
