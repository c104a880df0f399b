"""Adversarial training against the whole list: the form of this project that holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.adversarial_training import AdversarialTraining, Objective
from mmgraph_robust.defenses.base import Step
from mmgraph_robust.metrics.ranking import edges_of
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, Int, matmul


class ListwiseAdversarialTraining(AdversarialTraining):
    r"""Every interaction's score, attacked in all modalities at once, is trained to stay ahead of a sample of the
    catalogue: what an attack on ranked lists has to overcome.

    For the triples' pairs :math:`(u, i)` and `rivals` items :math:`R`, drawn anew for every step:

    .. math::
        \ell(X) = \mathrm{mean}_{(u, i)} \log \Big( 1 + \sum_{r \in R \setminus N(u)} e^{s_{ur}(X) - s_{ui}(X)} \Big)
        + \Omega(X), \qquad \mathcal L(X) + \lambda\, \ell(X + \Delta), \qquad
        \Delta_i = \rho\, \Vert x_i \Vert_2\, \frac{\nabla_{x_i} \ell}{\Vert \nabla_{x_i} \ell \Vert_2}

    with the model's own regulariser :math:`\Omega`, which so counts :math:`1 + \lambda` times. It differs from
    :class:`AdversarialTraining` in one thing, the loss that the perturbation raises and training lowers. The idea: an
    attack moves an item past those that stand next to it in the list; one random negative per triple is seldom one of
    them, and of a few hundred rivals the softmax picks those that are close. On GRCN (hm) a sample is worth both clean
    and attacked recall, up to a few hundred rivals; on VBPR clean recall only, where one rival is as robust as many. In
    the terms of modality balancing: the margins of all channels together, ids included, pay for what all modalities
    together can lose, against the rivals that matter, and nothing is gained by inflating a margin against items that
    were never near. Who pays is left to the model: where ids or another modality can, it may listen less to a modality
    (MMGCN to the image, on hm).

    Args:
        weight: Weight :math:`\lambda` of the loss on the perturbed features.
        budget: Size :math:`\rho` of the perturbation; twice the one to defend against was better than the same.
        steps: Gradient steps per training step.
        rivals: Size of :math:`R`, items that are drawn uniformly for all users of a step; a user's own are left out.
        modalities: The modalities to defend (default: all that the model reads).
        scope: Whose norm the budget binds.
        relative: Whether `budget` is relative to the clean features, or in their own unit.

    Source: this project. The loss is the sampled softmax of classification over many classes (`"On Using Very Large
    Target Vocabulary for Neural Machine Translation" <https://arxiv.org/abs/1412.2007>`_, Jean et al., ACL 2015);
    the perturbation is that of :class:`AdversarialTraining`. How it compares with its rivals, and with the same loss
    without a perturbation, is told in ``docs/defenses.md``.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(0.05, 5.0, log=True),
        "budget": Float(0.01, 0.2, log=True),
        "steps": Int(1, 3),
    }

    def __init__(
        self,
        *,
        weight: float = 1.0,
        budget: float = 0.1,
        steps: int = 1,
        rivals: int = 256,
        modalities: Sequence[str] | None = None,
        scope: Literal["item", "matrix"] = "item",
        relative: bool = True,
    ) -> None:
        self._check_counts(rivals=rivals)
        self.rivals = rivals
        super().__init__(
            weight=weight, budget=budget, steps=steps, modalities=modalities, scope=scope, relative=relative
        )

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their budgets, and notes what users have already: a step's graph may lack some."""
        self._interactions = graph.interactions
        super().setup(model, data, graph)

    def _objective(self, step: Step) -> Objective:
        """The sampled softmax of this step's rivals."""
        user, positive = step.batch.user, step.batch.positive
        rivals = torch.randperm(step.model.num_items, generator=step.generator)[: self.rivals].to(user.device)
        known = self._known(user, rivals)

        def objective(embeddings: Embeddings, features: Features) -> Tensor:
            users, items = embeddings.concatenated()
            left = F.embedding(user, users)
            own = (left * F.embedding(positive, items)).sum(1, keepdim=True)
            ahead = (matmul(left, F.embedding(rivals, items).t()) - own).masked_fill(known, -torch.inf)
            # A row of zeros beside them is the item itself.
            loss = torch.logsumexp(F.pad(ahead, (1, 0)), 1).mean()
            return loss + step.model.regularization(embeddings, step.batch)

        return objective

    def _known(self, user: Tensor, rivals: Tensor) -> Tensor:
        """``[n, rivals]`` whether a rival is an item of the user's own."""
        place = torch.full((self._interactions.num_cols,), -1, device=user.device)
        place[rivals] = torch.arange(rivals.numel(), device=user.device)
        row, item = edges_of(self._interactions, user)
        column = place[item]
        known = torch.zeros(user.numel(), rivals.numel(), dtype=torch.bool, device=user.device)
        known[row[column >= 0], column[column >= 0]] = True
        return known
