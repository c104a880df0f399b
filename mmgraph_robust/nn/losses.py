"""Ranking losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.errors import DataError
from mmgraph_robust.nn.contrast import check_pair
from mmgraph_robust.utils import matmul, unit_rows


def bpr_loss(positive: Tensor, negative: Tensor) -> Tensor:
    r"""The loss of `"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_
    (Rendle et al., UAI 2009), :math:`-\frac{1}{B} \sum \log \sigma(s_{ui} - s_{uj})`, in a form that cannot overflow
    (the widely used toolbox adds 1e-10 to the sigmoid instead).

    Args:
        positive: ``[batch_size]`` scores of the items that the users chose.
        negative: ``[batch_size]`` scores of items that they did not; or ``[batch_size, n]`` of several for each of
            ``[batch_size, 1]``.

    Raises:
        DataError: If they differ in the number of dimensions, where each would meet all others.
    """
    if positive.dim() != negative.dim():
        found = f"{list(positive.shape)} and {list(negative.shape)}"
        raise DataError(f"'positive' and 'negative' expect the same shape, or [n, 1] and [n, m] (got {found})")
    return -F.logsigmoid(positive - negative).mean()


def batch_norms(user: Tensor, item: Tensor, ids: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    r"""The widely used toolbox's penalty :math:`(\Vert U_b \Vert_F + \Vert I_b \Vert_F + \Vert J_b \Vert_F) / B`:
    norms, not their squares, of the batch's rows.

    Args:
        user: ``[num_users, dim]``
        item: ``[num_items, dim]``
        ids: Users, positive and negative items of the batch, each ``[batch_size]``.
    """
    users, positives, negatives = ids
    rows = (F.embedding(users, user), F.embedding(positives, item), F.embedding(negatives, item))
    return (rows[0].norm() + rows[1].norm() + rows[2].norm()) / users.numel()


def batch_squares(user: Tensor, item: Tensor, ids: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    r"""LATTICE's and MGCN's penalty :math:`\frac{1}{2B} \sum (\Vert u \Vert^2 + \Vert i \Vert^2 + \Vert j \Vert^2)`
    on the batch's rows.

    Args:
        user: ``[num_users, dim]``
        item: ``[num_items, dim]``
        ids: Users, positive and negative items of the batch, each ``[batch_size]``.
    """
    users, positives, negatives = ids
    rows = (F.embedding(users, user), F.embedding(positives, item), F.embedding(negatives, item))
    return (rows[0].square().sum() + rows[1].square().sum() + rows[2].square().sum()) / (2 * users.numel())


def batch_mean_squares(nodes: Tensor, num_users: int, ids: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    r"""MMGCN's and GRCN's penalty :math:`\mathrm{mean}(E[u]^2 + E[x]^2)` over the batch's user-item rows, positive and
    negative.

    Args:
        nodes: ``[num_users + num_items, dim]``, users stacked over items.
        num_users: Number of users.
        ids: Users, positive and negative items of the batch, each ``[batch_size]``.
    """
    users, positives, negatives = ids
    rows = torch.cat([users, positives + num_users, users, negatives + num_users])
    # The mean over users and items together is half of the mean over their pairs.
    return 2 * F.embedding(rows, nodes).square().mean()


def info_nce(left: Tensor, right: Tensor, temperature: float = 0.2) -> Tensor:
    r"""The contrastive loss of `"Representation Learning with Contrastive Predictive Coding"
    <https://arxiv.org/abs/1807.03748>`_ (van den Oord et al., 2018) on cosines, each row against its partner and, as
    negatives, the partners of all other rows:

    .. math::
        -\frac{1}{n} \sum_a \log \frac{\exp(\cos(l_a, r_a) / \tau)}{\sum_b \exp(\cos(l_a, r_b) / \tau)}

    Args:
        left: ``[n, dim]``, at least one row.
        right: ``[n, dim]``
        temperature: The temperature :math:`\tau`, above 0.

    Raises:
        DataError: If the matrices differ in shape or have no rows.
        ConfigError: If `temperature` is not above 0.
    """
    check_pair(left, right, temperature)
    logits = matmul(unit_rows(left), unit_rows(right).t()) / temperature
    return (torch.logsumexp(logits, dim=1) - logits.diagonal()).mean()
