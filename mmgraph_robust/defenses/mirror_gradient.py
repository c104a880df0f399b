"""Training towards flat minima."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mmgraph_robust.defenses.base import Defense, Step, step_again
from mmgraph_robust.utils import Domain, Float, Int


class MirrorGradient(Defense):
    r"""`"Mirror Gradient: Towards Robust Multimodal Recommender Systems via Exploring Flat Local Minima"
    <https://arxiv.org/abs/2402.11262>`_ (Zhong et al., WWW 2024): now and then a step down and a smaller one up again.

    In every :math:`\beta`-th step, on the same triples,

    .. math::
        \theta' = \theta - \eta\, \alpha_1 \nabla \mathcal L(\theta), \qquad
        \theta'' = \theta' + \eta\, \alpha_2 \nabla \mathcal L(\theta')

    which to first order adds :math:`\frac{1}{2} \eta\, \alpha_1 \alpha_2 \Vert \nabla \mathcal L \Vert^2` to
    :math:`(\alpha_1 - \alpha_2) \mathcal L`. Both are full steps of the training's optimizer, momentum and weight decay
    included. No feature is perturbed, so any model may be trained so.

    Args:
        alpha1: Weight :math:`\alpha_1` of the step down.
        alpha2: Weight :math:`\alpha_2` of the step up; at 0 it is left out.
        every: Interval :math:`\beta`.

    The formulas are those of plain gradient descent. Under Adam, which `fit` trains with, the step up is taken by its
    running mean of gradients, which still points down after one gradient of the other sign: with the defaults it goes
    on down, a little shorter than the first. What is left is close to Adam with more steps.

    Source: the paper's algorithm, with one deliberate difference: steps are counted over the whole training, not anew
    in each epoch.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "alpha2": Float(0.05, 0.5, log=True),
        "every": Int(1, 6),
    }

    def __init__(self, *, alpha1: float = 1.0, alpha2: float = 0.2, every: int = 3) -> None:
        self._check_rates(alpha1=alpha1)
        self._check_sizes(alpha2=alpha2)
        self._check_counts(every=every)
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.every = every

    def gradients(self, step: Step) -> None:
        """Takes the step down, and leaves the gradients of the one up."""
        if step.index % self.every != 0:
            return
        for parameter in step.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.alpha1)
        if self.alpha2 > 0:
            step_again(step, step.features, -self.alpha2)
