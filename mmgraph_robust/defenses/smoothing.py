"""Randomised smoothing at inference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import defended_modalities
from mmgraph_robust.defenses.wrapped import WrappedModel
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator, evaluating


class Smoothed(WrappedModel):
    r"""A trained model that scores by its mean over noisy features, as in `"Certified Adversarial Robustness via
    Randomized Smoothing" <https://arxiv.org/abs/1902.02918>`_ (Cohen et al., ICML 2019).

    .. math::
        \bar s(u, i) = \frac{1}{n} \sum_{k=1}^n s(u, i \mid X + \sigma\, \mathrm{rms}(X)\, \epsilon_k), \qquad
        \epsilon_k \sim N(0, 1)

    It is a recommender like any other: evaluate it, and attack it through its own gradient. Vectors of the :math:`n`
    passes are concatenated and divided by :math:`\sqrt n`, so that their dot products are exactly the mean score, also
    where users and items both depend on the features. Item graphs that are built before the forward pass are those of
    features without noise: what is smoothed is the rest. A model that is linear in its features stays as it is but for
    noise. The noise is the same in every pass, so the attacker knows it; that the mean is over few draws
    makes certificates a matter of :func:`~mmgraph_robust.evaluation.smoothed_recall`, not of this class.

    Args:
        model: The trained model. It is part of the smoothed one, not copied.
        data: The clean data, for the deviation of the noise (:obj:`None`: it is read from a file afterwards).
        sigma: Standard deviation :math:`\sigma`, in units of the root mean square of each modality's clean entries.
        samples: Number :math:`n` of passes, each as dear as one of the model.
        modalities: The modalities that get noise (default: all that the model reads).
        seed: Seed of the noise.

    Source: the formula above, with one deliberate difference: scores are averaged, not votes for the largest. There the
    model is trained on the same noise; here it is what it is given: see :class:`~mmgraph_robust.defenses.FeatureNoise`.
    """

    deviation: Tensor

    def __init__(
        self,
        model: Recommender,
        data: HeteroData | None,
        *,
        sigma: float = 0.1,
        samples: int = 8,
        modalities: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data, seed=seed)
        self._check_sizes(sigma=sigma)
        self._check_counts(samples=samples)
        if model.feature_path == "none":
            raise ConfigError(
                f"no item feature reaches the score of '{type(model).__name__}': there is nothing to smooth"
            )
        names = defended_modalities(model, modalities)
        self.sigma = sigma
        self.samples = samples
        self.names = names
        deviation = torch.zeros(len(names), dtype=torch.double)
        if data is not None:
            features = model.features(data)
            if model.feature_path == "graph":
                _check_noise_reaches(model, features, model.graph(data), names)
            deviation = torch.stack([sigma * features[m].double().square().mean().sqrt().cpu() for m in names])
        self.register_buffer("deviation", deviation)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings whose scores are means over the noise."""
        if self.model.knn_k is not None:
            # Those that nobody has built yet are of the features without noise, too.
            graph = graph.with_item_graphs(self.model.item_graphs(features, graph))
        generator = child_generator(self.seed, "smoothing")
        passes = []
        for _ in range(self.samples):
            noise = {m: torch.randn(features[m].shape, generator=generator) for m in self.names}
            deviation = dict(zip(self.names, self.deviation, strict=True))
            noisy = {m: features[m] + deviation[m].to(features[m]) * noise[m].to(features[m]) for m in self.names}
            passes.append(self.model(features | noisy, graph))
        scale = self.samples**-0.5
        user = {c: scale * torch.cat([e.user[c] for e in passes], dim=1) for c in passes[0].channels}
        item = {c: scale * torch.cat([e.item[c] for e in passes], dim=1) for c in passes[0].channels}
        return Embeddings(user, item)


def _check_noise_reaches(model: Recommender, features: Features, graph: Graph, names: Sequence[str]) -> None:
    """Raises ConfigError where a compiled graph holds all that the model reads of the features (FREEDOM)."""
    other = features | {m: features[m].roll(1, 0) for m in names}
    with evaluating(model), torch.no_grad():
        one, two = (torch.cat(model(x, graph).concatenated()) for x in (features, other))
    if torch.equal(one, two):
        raise ConfigError(
            f"'{type(model).__name__}' reads {list(names)} only through its item graph, which is built once, without "
            "noise: there is nothing to smooth"
        )
