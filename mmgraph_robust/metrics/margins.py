"""Score margins per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.models import Embeddings


def score_margins(embeddings: Embeddings, pairs: Tensor) -> dict[str, float]:
    r"""How far positives stand above the catalogue, channel by channel:
    :math:`\mathrm{mean}_{(u, i)} \big( s^c_{ui} - \mathrm{mean}_k\, s^c_{uk} \big)`.

    The values of all channels add up to the margin of the whole score.

    Args:
        embeddings: The model's embeddings.
        pairs: ``[2, n]`` positive (user, item) pairs.
    """
    user, item = pairs
    margins = {}
    with torch.no_grad():
        for channel in embeddings.channels:
            centred = embeddings.item[channel] - embeddings.item[channel].mean(0)
            margins[channel] = float((embeddings.user[channel][user] * centred[item]).sum(1).double().mean())
    return margins
