"""Adversarial training on embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mmgraph_robust.attacks.norms import steepest
from mmgraph_robust.defenses.base import Defense, Step
from mmgraph_robust.models import Embeddings
from mmgraph_robust.utils import Domain, Float


class APR(Defense):
    r"""`"Adversarial Personalized Ranking for Recommendation" <https://arxiv.org/abs/1808.03908>`_ (He et al., SIGIR
    2018): adversarial training that perturbs the embeddings, not the features.

    .. math::
        \mathcal L(E) + \lambda\, \mathcal L(E + \Delta), \qquad
        \Delta_r = \epsilon\, \frac{\nabla_{e_r} \mathcal L}{\Vert \nabla_{e_r} \mathcal L \Vert_2}
        \text{ taken as constant, for every row } r

    The rows are the user and item vectors of every channel that the model returns; a matrix that several channels
    share is perturbed once. A step costs no further pass through the model. Models without features may be
    trained so, too.

    Args:
        weight: Weight :math:`\lambda` of the loss on the perturbed embeddings.
        eps: Length :math:`\epsilon` of each row's perturbation, in the embeddings' own unit.

    Source: the equations of the paper, with these deliberate differences: what is perturbed is what scores are computed
    from, in matrix factorisation the parameters themselves and in other models the outcome of the forward pass; the
    loss is the model's whole loss, regulariser included (the paper's counts its own once), as a mean over the batch.
    Like there, start from a trained model (``fit`` goes on from the weights that a model has).
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(0.05, 5.0, log=True),
        "eps": Float(0.01, 2.0, log=True),
    }

    def __init__(self, *, weight: float = 1.0, eps: float = 0.5) -> None:
        self._check_sizes(weight=weight, eps=eps)
        self.weight = weight
        self.eps = eps

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The loss on the perturbed embeddings."""
        clean = step.embeddings
        matrices = {id(x): x for side in (clean.user, clean.item) for x in side.values()}
        # Cut from each other: an item's vector may be a part of its users'.
        leaves = {key: x.detach().requires_grad_() for key, x in matrices.items()}
        loss = step.model.loss(_replaced(clean.detach(), clean, leaves), step.batch, step.features)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        moved = {
            key: matrices[key] if gradient is None else matrices[key] + self.eps * steepest(gradient, "l2", False)
            for key, gradient in zip(leaves, found, strict=True)
        }
        adversarial = step.model.loss(_replaced(clean, clean, moved), step.batch, step.features)
        return self.weight * adversarial, {"adversarial_loss": float(adversarial.detach())}


def _replaced(rest: Embeddings, original: Embeddings, matrices: dict[int, Tensor]) -> Embeddings:
    """Other matrices in the place of the original ones, shared where those are, and the extras of `rest`."""
    user, item = ({c: matrices[id(x)] for c, x in side.items()} for side in (original.user, original.item))
    return Embeddings(user, item, rest.extra)
