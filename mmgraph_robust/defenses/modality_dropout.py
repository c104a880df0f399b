"""Training with modalities missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, check_reached, defended_modalities
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float


class ModalityDropout(Defense):
    r"""Modality dropout as in `"ModDrop: Adaptive Multi-modal Gesture Recognition" <https://arxiv.org/abs/1501.00102>`_
    (Neverova et al., TPAMI 2016): in every step, an item may lack a modality.

    .. math::
        \tilde x^m_i = b^m_i\, x^m_i, \qquad b^m_i \sim \mathrm{Bernoulli}(1 - p) \text{ independently}

    Nothing is scaled up. An item may lose all of its modalities at once.

    Args:
        rate: Probability :math:`p`.
        modalities: The modalities that may be missing (default: all that the model reads).

    Source: the equations of the paper, with one deliberate difference: the samples that lack a modality are items, for
    all triples of the step.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {"rate": Float(0.01, 0.7)}

    def __init__(self, *, rate: float = 0.2, modalities: Sequence[str] | None = None) -> None:
        self._check(rate=(0 <= rate <= 1, "from 0 to 1", rate))
        self.rate = rate
        self.modalities = self._several("modalities", modalities)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities."""
        self._names = defended_modalities(model, self.modalities)
        check_reached(model, model.features(data), graph, self._names)

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The features with rows set to zero."""
        return features | {m: features[m] * self._kept(features[m], generator) for m in self._names}

    def _kept(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (torch.rand(x.size(0), 1, generator=generator) >= self.rate).to(x)
