"""Ranking losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bpr_loss(positive: Tensor, negative: Tensor) -> Tensor:
    r"""The loss of `"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_
    (Rendle et al., UAI 2009), :math:`-\frac{1}{B} \sum \log \sigma(s_{ui} - s_{uj})`, in a form that cannot overflow.

    Args:
        positive: ``[batch_size]`` scores of the items that the users chose.
        negative: ``[batch_size]`` scores of items that they did not.
    """
    return -F.logsigmoid(positive - negative).mean()
