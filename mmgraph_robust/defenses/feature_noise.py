"""Training on noisy features."""

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


class FeatureNoise(Defense):
    r"""Training on features with fresh Gaussian noise in every step, as in `"Training with Noise is Equivalent to
    Tikhonov Regularization" <https://doi.org/10.1162/neco.1995.7.1.108>`_ (Bishop, Neural Computation 1995).

    .. math::
        \tilde X^m = X^m + \sigma\, \mathrm{rms}(X^m)\, \epsilon, \qquad \epsilon \sim N(0, 1)

    The control for every adversarial training, and what the certificates of
    :func:`~mmgraph_robust.evaluation.smoothed_recall` want a model to be trained with.

    Args:
        sigma: Standard deviation :math:`\sigma`, in units of the root mean square of each modality's entries.
        modalities: The modalities that get noise (default: all that the model reads).

    Source: the formula above, with one deliberate difference: the deviation is told relative to the features.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {"sigma": Float(0.01, 1.0, log=True)}

    def __init__(self, *, sigma: float = 0.05, modalities: Sequence[str] | None = None) -> None:
        self._check_sizes(sigma=sigma)
        self.sigma = sigma
        self.modalities = self._several("modalities", modalities)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Fixes the modalities and their deviations."""
        names = defended_modalities(model, self.modalities)
        features = model.features(data)
        check_reached(model, features, graph, names)
        self._deviation = {m: self.sigma * float(features[m].double().square().mean().sqrt()) for m in names}

    def features(self, features: Features, generator: torch.Generator) -> Features:
        """The features plus noise."""
        noise = {m: torch.randn(features[m].shape, generator=generator) for m in self._deviation}
        return features | {m: features[m] + d * noise[m].to(features[m]) for m, d in self._deviation.items()}
