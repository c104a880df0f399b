"""Gradients of the modality that learns faster, held back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, Step, defended_modalities
from mmgraph_robust.defenses.parameters import modality_parameters
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import Categorical, Domain, Float


class OGMGE(Defense):
    r"""`"Balanced Multimodal Learning via On-the-fly Gradient Modulation" <https://arxiv.org/abs/2203.15332>`_ (Peng et
    al., CVPR 2022): the gradients of a modality that already ranks better than the others are scaled down.

    With :math:`s^m(u, i)` the score in the channel of modality :math:`m`,

    .. math::
        \rho_m = \frac{\bar p_m}{\mathrm{mean}_{o \ne m}\, \bar p_o}, \qquad
        \bar p_m = \mathrm{mean}_{(u, i, j)}\, \sigma\big(s^m(u, i) - s^m(u, j)\big), \qquad
        k_m = \begin{cases} 1 - \tanh(\alpha \rho_m) & \rho_m > 1 \\ 1 & \text{else} \end{cases}

    and the gradient :math:`g` of every parameter of modality :math:`m` becomes :math:`k_m g + \xi`, where :math:`\xi`
    is Gaussian noise with the standard deviation of the entries of :math:`g` (generalization enhancement).

    The paper trains with plain gradient descent. Adam, which `fit` trains with, divides by the size of recent gradients
    and so takes a steady :math:`k_m` away again: what acts is its change from step to step, and the noise. That also
    reaches rows of a modality's tables that have no gradient in a step (users' preferences, trainable features).

    Args:
        alpha: Strength :math:`\alpha`; at 0 nothing is scaled.
        noise: Whether to add :math:`\xi`.

    Source: the equations of the paper, with these deliberate differences: the probability of the label is the mean
    sigmoid of the margin; any number of modalities (with two, :math:`\rho` is the paper's but for the sum in place of
    the mean, which cancels); a modality's parameters are all those named after it (``projection.visual``), where the
    official code takes convolutions only. The default of `alpha` is ours.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "alpha": Float(0.01, 2.0, log=True),
        "noise": Categorical([True, False]),
    }

    def __init__(self, *, alpha: float = 0.3, noise: bool = True) -> None:
        self._check_sizes(alpha=alpha)
        self.alpha = alpha
        self.noise = noise

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Checks that modalities have channels to compare and parameters to hold back."""
        names = defended_modalities(model, None)
        with torch.no_grad():
            channels = model(model.features(data), graph).channels
        self._names = [m for m in names if m in channels]
        if len(self._names) < 2:
            raise ConfigError(
                f"'{type(self).__name__}' compares score channels of modalities, at least two; "
                f"'{type(model).__name__}' has {list(channels)}"
            )
        for name in self._names:
            if not modality_parameters(model, name):
                raise ConfigError(f"'{type(model).__name__}' has no parameter named after '{name}' to hold back")
        self._factors = dict.fromkeys(self._names, 1.0)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """No term; the factors of the gradients, seen in this step."""
        user, positive, negative = step.batch.ids
        with torch.no_grad():
            chosen = step.embeddings.channel_scores(user, positive)
            other = step.embeddings.channel_scores(user, negative)
            trust = {m: float(torch.sigmoid(chosen[m] - other[m]).mean()) for m in self._names}
        for name in self._names:
            others = [p for o, p in trust.items() if o != name]
            # A mean of sigmoids is zero only where float32 is.
            ratio = trust[name] / max(sum(others) / len(others), torch.finfo(torch.float32).tiny)
            self._factors[name] = 1.0 - math.tanh(self.alpha * ratio) if ratio > 1 else 1.0
        return step.loss.new_zeros(()), {f"factor_{m}": k for m, k in self._factors.items()}

    def gradients(self, step: Step) -> None:
        """Scales the gradients, and adds the noise."""
        for name in self._names:
            for parameter in modality_parameters(step.model, name).values():
                if parameter.grad is None:
                    continue
                deviation = parameter.grad.std(correction=0)
                parameter.grad.mul_(self._factors[name])
                if self.noise:
                    noise = torch.randn(parameter.shape, generator=step.generator).to(parameter.grad)
                    parameter.grad.add_(deviation * noise)
