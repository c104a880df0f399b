"""Which of a model's parameters belong to a modality."""

from __future__ import annotations

import re

import torch

from mmgraph_robust.models import Recommender


def modality_parameters(model: Recommender, modality: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that are named after a modality, such as ``projection.visual`` or ``preference_visual``.

    Args:
        model: The model; its parameters are named by where they stand in it.
        modality: The modality.
    """
    part = re.compile(rf"(^|[._]){re.escape(modality)}($|[._])")
    return {name: p for name, p in model.named_parameters() if part.search(name)}
