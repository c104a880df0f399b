"""Adversarial training at the price of plain training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Step, check_reached, step_again
from mmgraph_robust.defenses.budgeted import Budgeted
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, Int


class FreeAdversarialTraining(Budgeted):
    r"""`"Adversarial Training for Free!" <https://arxiv.org/abs/1904.12843>`_ (Shafahi et al., NeurIPS 2019): every
    backward pass moves the parameters down and the perturbation up, and the perturbation is kept.

    Each batch is trained on :math:`m` times in a row:

    .. math::
        \theta \leftarrow \theta - \eta\, \nabla_\theta \mathcal L(X + \Delta, \theta), \qquad
        \Delta \leftarrow \Pi\Big(\Delta + \alpha\, \rho\, \Vert x_i \Vert_2\,
        \frac{\nabla_{x_i} \mathcal L}{\Vert \nabla_{x_i} \mathcal L \Vert_2}\Big)

    with both gradients from one pass, at the same :math:`\theta` and :math:`\Delta`, and :math:`\Pi` the projection
    on the budget.

    Args:
        budget: Size :math:`\rho` of the perturbation.
        replays: Number :math:`m` of optimizer steps per batch. An epoch costs that many plain ones; the paper divides
            the number of epochs by it.
        step_size: Share :math:`\alpha` of the budget by which the perturbation moves each time.
        modalities: The modalities to defend (default: all that the model reads).
        scope: Whose norm the budget binds.
        relative: Whether `budget` is relative to the clean features, or in their own unit.

    Source: the paper's algorithm, with these deliberate differences: budgets and steps are l2 and relative like those
    of :class:`AdversarialTraining` (there the largest entry, by signs); the rows of :math:`\Delta` belong to items,
    not to positions of the batch, so an item goes on with its own; an item that a batch's loss does not reach keeps
    its row; ``replays=1`` is allowed, since the next batches play on with the same items anyway.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "budget": Float(0.01, 0.2, log=True),
        "replays": Int(1, 8),
        "step_size": Float(0.1, 1.0, log=True),
    }

    def __init__(
        self,
        *,
        budget: float = 0.05,
        replays: int = 4,
        step_size: float = 1.0,
        modalities: Sequence[str] | None = None,
        scope: Literal["item", "matrix"] = "item",
        relative: bool = True,
    ) -> None:
        self._check_counts(replays=replays)
        self._check_rates(step_size=step_size)
        self.replays = replays
        self.step_size = step_size
        super().__init__(budget, modalities, scope, relative)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their budgets, and starts without a perturbation."""
        super().setup(model, data, graph)
        self._clean = model.features(data)
        check_reached(model, self._clean, graph, self._threat.modalities)
        self._delta = {m: torch.zeros_like(self._clean[m]) for m in self._threat.modalities}

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The perturbed features, as leaves that the step's own backward pass reaches."""
        return features | {m: (features[m] + d).requires_grad_() for m, d in self._delta.items()}

    def gradients(self, step: Step) -> None:
        """Moves the perturbation by the gradient that the backward pass left, and plays the batch again."""
        features = step.features
        for _ in range(self.replays - 1):
            self._ascend(features)
            features = self.features(self._clean, step.generator)
            step_again(step, features)
        self._ascend(features)

    def _ascend(self, features: Features) -> None:
        for name, delta in self._delta.items():
            gradient = features[name].grad
            if gradient is not None:
                radius = self._radii[name]
                moved = delta + self.step_size * radius * self._threat.steepest(gradient)
                self._delta[name] = self._threat.project(moved, radius)

    def state(self) -> dict[str, object]:
        """The perturbation."""
        return {m: d.cpu() for m, d in self._delta.items()}

    def load_state(self, state: dict[str, object]) -> None:
        """Takes up the perturbation."""
        self._delta = {m: cast(Tensor, state[m]).to(d) for m, d in self._delta.items()}
