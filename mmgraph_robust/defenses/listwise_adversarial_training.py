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

    With a `stability` :math:`\mu` above zero, lists are to stay as they are, too: to :math:`\ell(X + \Delta)` is added

    .. math::
        \mu\, \big( h(X + \Delta) - h(X) \big), \qquad
        h = \mathrm{mean}_{(u, i)} \log \Big( 1 + \sum_{r \in R \setminus N(u) \setminus \{f_u\}}
        e^{s_{ur} - s_{uf_u}} \Big)

    and :math:`\Delta` raises :math:`\ell + \mu h`. The leader :math:`f_u` is the rival that stands first for the user
    on the clean features, a constant; whoever has every rival already has none, and adds 0. Both terms are trained: the
    lead of :math:`f_u` is to be as large under the attack as without it, not larger and larger. (Under the first term
    alone a model seems to grow sure of whatever it lists.) The idea: an attack acts on what is recommended, most of it
    items that nobody has told the model of, and the margins of known pairs say little about those. The leader is about
    the :math:`(|I| + 1) / (|R| + 1)`-th of all items: with a few hundred rivals of a few thousand, one whose place in a
    list of twenty an attack fights for.

    Args:
        weight: Weight :math:`\lambda` of the loss on the perturbed features.
        budget: Size :math:`\rho` of the perturbation; twice the one to defend against was better than the same.
        steps: Gradient steps per training step.
        rivals: Size of :math:`R`, items that are drawn uniformly for all users of a step; a user's own are left out.
        stability: Weight :math:`\mu` of what lists lose, relative to the pairs' loss. 2, beside ``weight=0.3``, was
            worth its price on VBPR (hm); on GRCN and MMGCN nothing was gained, or at a price (one seed).
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
        stability: float = 0.0,
        modalities: Sequence[str] | None = None,
        scope: Literal["item", "matrix"] = "item",
        relative: bool = True,
    ) -> None:
        self._check_counts(rivals=rivals)
        self._check_sizes(stability=stability)
        self.rivals = rivals
        self.stability = stability
        super().__init__(
            weight=weight, budget=budget, steps=steps, modalities=modalities, scope=scope, relative=relative
        )

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their budgets, and notes what users have already: a step's graph may lack some."""
        self._interactions = graph.interactions
        super().setup(model, data, graph)

    def _objective(self, step: Step) -> Objective:
        """The sampled softmax of this step's rivals, and what users' lists of them lose."""
        user, positive = step.batch.user, step.batch.positive
        rivals = torch.randperm(step.model.num_items, generator=step.generator)[: self.rivals].to(user.device)
        known = self._known(user, rivals)

        def scores(embeddings: Embeddings) -> tuple[Tensor, Tensor]:
            users, items = embeddings.concatenated()
            left = F.embedding(user, users)
            own = (left * F.embedding(positive, items)).sum(1, keepdim=True)
            return own, matmul(left, F.embedding(rivals, items).t()).masked_fill(known, -torch.inf)

        own, others = scores(step.embeddings)
        pairs, leader = _surpassed(own, others), others.detach().argmax(1, keepdim=True)
        before = _leader_surpassed(others, leader) if self.stability > 0 else 0.0

        def objective(embeddings: Embeddings, features: Features) -> Tensor:
            regularization = step.model.regularization(embeddings, step.batch)
            if embeddings is step.embeddings:
                # Here a perturbation begins. Nothing is subtracted: what is constant to it would cancel its direction.
                return pairs + self.stability * before + regularization
            own, others = scores(embeddings)
            loss = _surpassed(own, others)
            if self.stability > 0:
                loss = loss + self.stability * (_leader_surpassed(others, leader) - before)
            return loss + regularization

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


def _surpassed(own: Tensor, others: Tensor) -> Tensor:
    """The mean of log(1 + sum exp(other - own)) over rows."""
    # A row of zeros beside them is the item itself.
    return torch.logsumexp(F.pad(others - own, (1, 0)), 1).mean()


def _leader_surpassed(scores: Tensor, leader: Tensor) -> Tensor:
    """The same with the item in place `leader` of each row as its own; a row without other items adds 0."""
    own = scores.gather(1, leader)
    # A row of nothing but -inf: -inf - (-inf) would be NaN.
    own = own.masked_fill(own == -torch.inf, 0.0)
    return _surpassed(own, scores.scatter(1, leader, -torch.inf))
