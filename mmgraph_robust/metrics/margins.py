"""Score margins per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.errors import DataError
from mmgraph_robust.models import Embeddings


def score_margins(embeddings: Embeddings, pairs: Tensor) -> dict[str, float]:
    r"""How far positives stand above the catalogue, channel by channel:
    :math:`\mathrm{mean}_{(u, i)} \big( s^c_{ui} - \mathrm{mean}_k\, s^c_{uk} \big)`.

    The values of all channels add up to the margin of the whole score.

    Args:
        embeddings: The model's embeddings.
        pairs: ``[2, n]`` positive (user, item) pairs, at least one.

    Raises:
        DataError: If `pairs` has another shape, or there are none.
    """
    if pairs.dim() != 2 or pairs.size(0) != 2 or pairs.size(1) == 0:
        raise DataError(f"'pairs' expects shape [2, n] with at least one pair (got {list(pairs.shape)})")
    user, item = pairs
    margins = {}
    with torch.no_grad():
        for channel in embeddings.channels:
            centred = embeddings.item[channel] - embeddings.item[channel].mean(0)
            margins[channel] = float((embeddings.user[channel][user] * centred[item]).sum(1).double().mean())
    return margins
