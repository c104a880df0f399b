"""A penalty on what each modality could do to the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, Step, check_reached, defended_modalities, feature_gradients
from mmgraph_robust.models import Recommender
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float


class GradientPenalty(Defense):
    r"""The vulnerability penalty of `VARMAT <https://arxiv.org/abs/2511.18138>`_ (AAAI 2026): the length of the loss's
    gradient with respect to each modality is part of the loss.

    .. math::
        \mathcal L + \lambda \sum_m \sum_i \Vert \nabla_{x^m_i} \mathcal L \Vert_2

    It is differentiated twice. To first order, :math:`\epsilon` times the sum is what an attacker gains who
    moves every row by :math:`\epsilon`.

    Args:
        weight: Weight :math:`\lambda`.
        modalities: The modalities to defend (default: all that the model reads).

    Source: the paper's formula, with these deliberate differences: the latents :math:`z_m` whose gradient is
    penalised are the item features (its code cuts the latents from their encoders; here the features are such
    latents, and the encoders are outside of the model); the paper's mean over samples is the sum over items, since
    :math:`\mathcal L` is a mean over triples: they are the same where every item occurs once; the penalty stands
    alone, where the paper adds it to adversarial training, and its default weight is 1, where the paper's is 1000.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {"weight": Float(1e-3, 1e3, log=True)}

    def __init__(self, *, weight: float = 1.0, modalities: Sequence[str] | None = None) -> None:
        self._check_sizes(weight=weight)
        self.weight = weight
        self.modalities = self._several("modalities", modalities)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities."""
        self._names = defended_modalities(model, self.modalities)
        check_reached(model, model.features(data), graph, self._names)

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The clean features, as leaves that a gradient reaches."""
        return features | {m: features[m].detach().requires_grad_() for m in self._names}

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The penalty, and each modality's part of it."""
        leaves = {m: step.features[m] for m in self._names}
        gradients = feature_gradients(step.loss, leaves, step.model, create_graph=True)
        # The norm's own derivative at a row of zeros is zero.
        lengths = {m: torch.linalg.vector_norm(g, dim=1).sum() for m, g in gradients.items()}
        numbers = {f"gradient_{m}": float(x.detach()) for m, x in lengths.items()}
        return self.weight * sum_tensors(list(lengths.values())), numbers
