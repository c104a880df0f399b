"""What training does not go on with: numbers that are not finite, and defenses that the model would not notice."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses import Defense
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import bad_gradient

_ADVICE = "lower the learning rate, or look for extreme feature values"


def check_loss(loss: Tensor, name: str, epoch: int, batch: int) -> None:
    """Raises NonFiniteError if a loss is NaN or infinite."""
    if not bool(torch.isfinite(loss)):
        raise NonFiniteError(f"{name} became {float(loss.detach())} in epoch {epoch}, batch {batch}: {_ADVICE}")


def check_gradients(model: Recommender, epoch: int, batch: int) -> None:
    """Raises NonFiniteError if a parameter's gradient is NaN or infinite; names the parameter."""
    if bad := bad_gradient(model):
        raise NonFiniteError(f"{bad} in epoch {epoch}, batch {batch}: {_ADVICE}")


def check_defended(defense: Defense, model: Recommender, graph: Graph, clean: Features, changed: Features) -> None:
    """Raises ConfigError if a step's graph keeps what was learned from features that the defense has changed."""
    for name in model.modalities if graph.latent_graphs else ():
        if changed[name] is not clean[name]:
            raise ConfigError(
                f"'{type(defense).__name__}' changes the features of '{name}', which do not reach what "
                f"'{type(model).__name__}' trains on: its item graph was learned from the clean ones and is kept for "
                "several steps; let every step learn it anew (LATTICE: refresh_every=1)"
            )
