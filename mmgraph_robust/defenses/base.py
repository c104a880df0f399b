"""The contract of a defense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Described, Domain, bad_gradient


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
        optimizer: The training's own, for defenses that take further steps (:func:`step_again`).
    """

    model: Recommender
    graph: Graph
    features: Features
    batch: Batch
    embeddings: Embeddings
    loss: Tensor
    generator: torch.Generator
    index: int
    optimizer: torch.optim.Optimizer | None = None


def feature_gradients(
    value: Tensor, features: Features, model: Recommender, *, retain_graph: bool = False, create_graph: bool = False
) -> Features:
    """The gradient of `value` with respect to `features`, itself differentiable with `create_graph`.

    Raises:
        ConfigError: If a modality does not reach it: whoever trains on that would defend nothing.
    """
    leaves = list(features.values())
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad:
        found = torch.autograd.grad(
            value, leaves, retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
        )
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


def defended_modalities(model: Recommender, modalities: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities to defend: those asked for, or all that the model reads.

    Raises:
        ConfigError: If the model reads none, or not one of those asked for.
    """
    if not model.modalities:
        raise ConfigError(f"'{type(model).__name__}' reads no item features: there is nothing to defend")
    for name in modalities or ():
        model.check_modality(name)
    return tuple(modalities or model.modalities)


def check_reached(
    model: Recommender,
    features: Features,
    graph: Graph,
    modalities: Sequence[str],
    value: Callable[[Step], Tensor] | None = None,
) -> None:
    """Raises ConfigError if a modality does not reach the training loss: no change of it would defend anything.

    Args:
        model: The model.
        features: All clean features.
        graph: The model's whole graph.
        modalities: The modalities that are to be defended.
        value: What the defense looks at in the place of the model's loss.
    """
    graph = model.training_graph(graph, None, features, 0, torch.Generator().manual_seed(0))
    leaves = {m: features[m].detach().requires_grad_() for m in modalities}
    features = features | leaves
    first = torch.zeros(1, dtype=torch.long, device=model.device)
    batch = Batch(first, first, first)
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    step = Step(model, graph, features, batch, embeddings, loss, torch.Generator().manual_seed(0), 0)
    feature_gradients(loss if value is None else value(step), leaves, model)


def step_again(step: Step, features: Features, scale: float = 1.0) -> None:
    """Lets the optimizer take a step with the gradients at hand, and replaces them by those of the next one.

    Args:
        step: The step, whose triples are used again.
        features: The features to train on now.
        scale: Factor of the model's loss; below zero the next step climbs.

    Raises:
        ConfigError: If `step` has no optimizer.
        NonFiniteError: If a gradient at hand is NaN or infinite.
    """
    if step.optimizer is None:
        raise ConfigError("this defense takes steps of its own: 'Step' expects the training's optimizer (got None)")
    if bad := bad_gradient(step.model):
        raise NonFiniteError(f"{bad} in step {step.index} of the training, before another of its batch")
    step.optimizer.step()
    # A learned item graph that is kept for some steps is trained where it was learned, and a constant afterwards.
    kept = {m: a.with_value(a.values().detach()) for m, a in step.graph.latent_graphs.items()}
    loss = step.model.loss(step.model(features, step.graph.with_latent_graphs(kept)), step.batch, features)
    step.optimizer.zero_grad(set_to_none=True)
    (scale * loss).backward()


class Defense(Described):
    """Base of all defenses: plugs into training by hooks, each of which it may leave out, and never touches a model.

    The same object may defend several trainings, one after the other: what it learns about one is set in :meth:`setup`.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {}
    """Where a study searches the constructor's arguments, by name."""

    def _several(self, what: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
        """Names as a tuple, None as it is.

        Raises:
            ConfigError: If they are one string, none, or one of them twice.
        """
        if names is None:
            return None
        once = not isinstance(names, str) and 0 < len(names) == len(set(names))
        self._check(**{what: (once, "to be a list of different names, or None", names)})
        return tuple(names)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Called once before training; checks that the model can be defended so."""

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Called before each epoch."""

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The features that this step trains on (default: the clean ones)."""
        return features

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """A term to add to the loss, weight included, and numbers worth a line in the history (default: nothing)."""
        return step.loss.new_zeros(()), {}

    def gradients(self, step: Step) -> None:
        """Changes the parameters' gradients in place, after the backward pass (default: leaves them).

        It may also take steps of its own before the one that follows (:func:`step_again`).
        """

    def state(self) -> dict[str, object]:
        """What :meth:`load_state` needs to go on after an interruption: tensors, numbers and strings, maybe nested."""
        return {}

    def load_state(self, state: dict[str, object]) -> None:
        """Takes up what :meth:`state` returned."""
