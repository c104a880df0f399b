"""Adversarial training on item features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.pgd import step_share
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Step, check_reached, feature_gradients
from mmgraph_robust.defenses.budgeted import Budgeted
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, Int

Objective = Callable[[Embeddings, Features], Tensor]


class AdversarialTraining(Budgeted):
    r"""Training on features that the current model dislikes most, in the manner of `"Adversarial Training Towards
    Robust Multimedia Recommender System" <https://arxiv.org/abs/1809.07062>`_ (Tang et al., TKDE 2019), for any model
    and any number of modalities.

    .. math::
        \mathcal L(X) + \lambda\, \mathcal L(X + \Delta), \qquad
        \Delta_i = \rho\, \Vert x_i \Vert_2\, \frac{\nabla_{x_i} \mathcal L}{\Vert \nabla_{x_i} \mathcal L \Vert_2}
        \text{ taken as constant}

    Several steps are projected gradient ascent. With one, as in the formula, the gradient comes from the training
    step's own forward pass. With ``steps=1`` and ``relative=False``, :math:`\Delta_i = \epsilon\, \nabla_{x_i}
    \mathcal L / \Vert \nabla_{x_i} \mathcal L \Vert_2`, this is the paper's AMR; like there, start from a trained model
    (``fit`` goes on from the weights that a model has).

    Args:
        weight: Weight :math:`\lambda` of the loss on the perturbed features.
        budget: Size :math:`\rho` of the perturbation relative to the clean features, or :math:`\epsilon`.
        steps: Gradient steps per training step; more is slower and stronger.
        modalities: The modalities to defend (default: all that the model reads).
        scope: Whose norm the budget binds.
        relative: Whether `budget` is relative to the clean features, or in their own unit.

    Source: the equations of the paper, with these deliberate differences: any model, any modalities; the loss on the
    perturbed features is the model's whole loss, regulariser included (the paper's counts its own once); the mean over
    the batch in place of the sum; the optimizer is that of the training.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(0.05, 5.0, log=True),
        "budget": Float(0.01, 0.2, log=True),
        "steps": Int(1, 5),
    }

    def __init__(
        self,
        *,
        weight: float = 1.0,
        budget: float = 0.05,
        steps: int = 1,
        modalities: Sequence[str] | None = None,
        scope: Literal["item", "matrix"] = "item",
        relative: bool = True,
    ) -> None:
        self._check_sizes(weight=weight)
        self._check_counts(steps=steps)
        self.weight = weight
        self.steps = steps
        super().__init__(budget, modalities, scope, relative)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their budgets, and sees that they reach what the perturbation raises."""
        super().setup(model, data, graph)
        check_reached(
            model, model.features(data), graph, self._threat.modalities,
            lambda step: self._objective(step)(step.embeddings, step.features),
        )  # fmt: skip

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The clean features, as leaves that the step's own backward pass reaches."""
        return features | {m: features[m].detach().requires_grad_() for m in self._threat.modalities}

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The loss on the perturbed features."""
        objective = self._objective(step)
        clean = {m: step.features[m] for m in self._threat.modalities}
        delta = {m: torch.zeros_like(x) for m, x in clean.items()}
        loss, leaves = objective(step.embeddings, step.features), clean
        size = step_share(self.steps, 1.0 if self.steps == 1 else None)
        for index in range(self.steps):
            if index > 0:
                leaves = {m: (clean[m] + d).detach().requires_grad_() for m, d in delta.items()}
                loss = _on(step, leaves, objective)
            gradients = feature_gradients(loss, leaves, step.model, retain_graph=index == 0)
            for name, gradient in gradients.items():
                radius = self._radii[name]
                moved = delta[name] + size * radius * self._threat.steepest(gradient)
                delta[name] = self._threat.project(moved, radius)
        adversarial = _on(step, {m: (clean[m] + d).detach() for m, d in delta.items()}, objective)
        return self.weight * adversarial, {"adversarial_loss": float(adversarial.detach())}

    def _objective(self, step: Step) -> Objective:
        """What perturbations raise and training lowers: the model's own loss."""

        def objective(embeddings: Embeddings, features: Features) -> Tensor:
            # The training step has computed it already on its own embeddings.
            return step.loss if embeddings is step.embeddings else step.model.loss(embeddings, step.batch, features)

        return objective


def _on(step: Step, changed: Features, objective: Objective) -> Tensor:
    features = step.features | changed
    return objective(step.model(features, step.graph), features)
