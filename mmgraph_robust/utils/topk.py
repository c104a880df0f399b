"""The largest entries of each row, in one documented order."""

from __future__ import annotations

import torch
from torch import Tensor


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the `k` largest entries of each row, ordered by (score descending, column ascending).

    :func:`torch.topk` promises no order among equal scores, neither in its list nor for which of them enter it.

    Args:
        scores: ``[num_rows, num_cols]``, without NaN.
        k: How many; at most ``num_cols``.

    Shapes:
        - **output:** two tensors ``[num_rows, k]``, values and int64 columns.
    """
    num_cols = scores.size(1)
    if k >= num_cols:
        values, columns = torch.sort(scores, dim=1, descending=True, stable=True)
        return values[:, :k], columns[:, :k]
    values, columns = torch.topk(scores, k + 1, dim=1)
    # Where the last that enters equals the first that does not, topk chose arbitrarily.
    ambiguous = (values[:, k - 1] == values[:, k]).nonzero().flatten()
    columns, order = torch.sort(columns[:, :k], dim=1)
    values = values[:, :k].gather(1, order)
    values, order = torch.sort(values, dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    if ambiguous.numel() > 0:
        tied_values, tied_columns = torch.sort(scores[ambiguous], dim=1, descending=True, stable=True)
        values[ambiguous] = tied_values[:, :k]
        columns[ambiguous] = tied_columns[:, :k]
    return values, columns
