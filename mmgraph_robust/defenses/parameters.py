"""Which of a model's parameters belong to a modality."""

from __future__ import annotations

import re

import torch

from mmgraph_robust.models import Recommender


def modality_parameters(model: Recommender, modality: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that are named after a modality, such as ``projection.visual`` or ``preference_visual``.

    What is named after ``image_large`` does not belong to ``image``.

    Args:
        model: The model; its parameters are named by where they stand in it.
        modality: The modality.
    """
    longest = "|".join(re.escape(m) for m in sorted(model.modalities, key=len, reverse=True))
    part = re.compile(rf"(?:^|[._])({longest})(?:$|[._])")
    named = ((name, p, part.search(name)) for name, p in model.named_parameters())
    return {name: p for name, p, found in named if found and found.group(1) == modality}
