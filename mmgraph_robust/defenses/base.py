"""The contract of a defense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain


@dataclass(frozen=True)
class Step:
    """What a defense sees of one training step.

    Attributes:
        model: The model in training.
        graph: Its graph.
        features: The features of this step, as :meth:`Defense.features` returned them.
        batch: The triples.
        embeddings: The model's embeddings on `features`.
        loss: The model's own loss, a scalar.
        generator: The defense's own randomness.
        index: Number of the step, counted over the whole training.
    """

    model: Recommender
    graph: Graph
    features: Features
    batch: Batch
    embeddings: Embeddings
    loss: Tensor
    generator: torch.Generator
    index: int


def feature_gradients(value: Tensor, features: Features, model: Recommender, *, retain_graph: bool = False) -> Features:
    """The gradient of `value` with respect to `features`.

    Raises:
        ConfigError: If a modality does not reach it: whoever trains on that would defend nothing.
    """
    leaves = list(features.values())
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad:
        found = torch.autograd.grad(value, leaves, retain_graph=retain_graph, allow_unused=True)
    result: Features = {}
    for name, gradient in zip(features, found, strict=True):
        if gradient is None:
            raise ConfigError(
                f"the features of '{name}' do not reach what '{type(model).__name__}' trains on, so nothing can be "
                "defended: features that act through an item graph are met only where every step builds it anew "
                "(LATTICE: refresh_every=1)"
            )
        result[name] = gradient
    return result


class Defense:
    """Base of all defenses: plugs into training by at most three hooks and never touches a model.

    The same object may defend several trainings, one after the other: what it learns about one is set in :meth:`setup`.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {}
    """Where a study searches the constructor's arguments, by name."""

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Called once before training; checks that the model can be defended so."""

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Called before each epoch."""

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The features that this step trains on (default: the clean ones)."""
        return features

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """A term to add to the loss, weight included, and numbers worth a line in the history."""
        raise NotImplementedError

    def gradients(self, step: Step) -> None:
        """Changes the parameters' gradients in place, after the backward pass (default: leaves them)."""

    def state(self) -> dict[str, object]:
        """What :meth:`load_state` needs to go on after an interruption, as plain JSON values."""
        return {}

    def load_state(self, state: dict[str, object]) -> None:
        """Takes up what :meth:`state` returned."""

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values."""
        return {"name": type(self).__name__} | {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({arguments})"
