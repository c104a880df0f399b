"""The balls that bound a perturbation: size, projection and steepest step, row by row or over a whole matrix."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmgraph_robust.typing import Features

Norm = Literal["l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = ("l1", "l2", "linf")
ORDER: dict[Norm, float] = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}


def size(x: Tensor, norm: Norm, whole: bool) -> Tensor:
    """The norm of every row, or of the whole matrix, in float64: millions of terms in float32 miss the last digits.

    Args:
        x: ``[num_rows, dim]``
        norm: Which norm.
        whole: Whether the matrix counts as one row.

    Shapes:
        - **output:** ``[num_rows, 1]`` or ``[1, 1]``
    """
    rows = x.double() if not whole else x.double().reshape(1, -1)
    return torch.linalg.vector_norm(rows, ord=ORDER[norm], dim=1, keepdim=True)


def project(delta: Tensor, radius: Tensor, norm: Norm, whole: bool) -> Tensor:
    """The closest point of the ball, exact for every norm.

    Args:
        delta: ``[num_rows, dim]``
        radius: ``[num_rows, 1]`` or ``[1, 1]`` radii.
        norm: Which norm.
        whole: Whether the matrix counts as one row.
    """
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -radius), radius)
    length = _quick_size(delta, norm, whole)
    if norm == "l2":
        return torch.where(length > radius, delta * (radius / length.clamp(min=torch.finfo(delta.dtype).tiny)), delta)
    rows = delta.reshape(1, -1) if whole else delta
    return torch.where(length > radius, _project_l1(rows, radius).view_as(delta), delta)


def steepest(gradient: Tensor, norm: Norm, whole: bool, entries: int = 1) -> Tensor:
    """The step of norm one that rises fastest along `gradient`; zero where the gradient is zero.

    That is the gradient's direction (l2), its signs (linf), or all of it in the entry of the largest gradient (l1).

    Args:
        gradient: ``[num_rows, dim]``
        norm: Which norm.
        whole: Whether the matrix counts as one row.
        entries: For l1, the number of entries with the largest gradients that share the step equally.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        # Scaled first: the squares of a tiny gradient are zero in any precision.
        tiny = torch.finfo(gradient.dtype).tiny
        scaled = gradient / _quick_size(gradient, "linf", whole).clamp(min=tiny)
        return scaled / _quick_size(scaled, "l2", whole).clamp(min=tiny)
    rows = gradient.reshape(1, -1) if whole else gradient
    entries = max(1, min(entries, rows.size(1)))
    place = rows.abs().topk(entries, dim=1).indices
    return torch.zeros_like(rows).scatter_(1, place, rows.gather(1, place).sign() / entries).view_as(gradient)


def fit_rounded(x: Tensor, delta: Tensor, radius: Tensor, norm: Norm, whole: bool) -> Tensor:
    """`x` plus `delta` as float32 stores it, inside the ball also after that rounding.

    Rows that rounding has pushed out are shrunk; one whose budget is finer than float32 resolves stays as it is.

    Args:
        x: ``[num_rows, dim]`` clean features.
        delta: ``[num_rows, dim]`` change inside the ball.
        radius: ``[num_rows, 1]`` or ``[1, 1]`` radii.
        norm: Which norm.
        whole: Whether the matrix counts as one row.
    """
    limit = radius.double()
    for _ in range(20):
        moved = x + delta
        stored = size(moved.double() - x.double(), norm, whole)
        over = stored > limit
        if not bool(over.any()):
            return moved
        shrunk = (limit / stored.clamp(min=torch.finfo(torch.float64).tiny) * (1 - 1e-6)).to(delta.dtype)
        delta = torch.where(over, delta * shrunk, delta)
    return torch.where(over, x, moved)


def sizes(features: Features, norm: Norm, whole: bool) -> Features:
    """The norms of clean features that relative budgets are parts of, per modality.

    For ``"linf"`` it is the root mean square of the row or matrix, so that the norms l2 and linf reach equally far.

    Args:
        features: Clean features.
        norm: Which norm.
        whole: Whether the matrix counts as one row.
    """
    result = {}
    for name, x in features.items():
        if norm == "linf":
            count = x.numel() if whole else x.size(1)
            result[name] = size(x, "l2", whole) / max(count, 1) ** 0.5
        else:
            result[name] = size(x, norm, whole)
    return result


def _quick_size(x: Tensor, norm: Norm, whole: bool) -> Tensor:
    # Rows are short enough for float32; what is left of its error, :func:`fit_rounded` takes away in the end.
    rows = x.abs().amax(1, keepdim=True) if norm == "linf" else x.norm(p=ORDER[norm], dim=1, keepdim=True)
    return size(rows, norm, True).to(x.dtype) if whole else rows


def _project_l1(rows: Tensor, radius: Tensor) -> Tensor:
    # "Efficient Projections onto the l1-Ball for Learning in High Dimensions" (Duchi et al., ICML 2008), by sorting.
    magnitude = rows.abs().double()
    ordered = magnitude.sort(dim=1, descending=True).values
    surplus = ordered.cumsum(1) - radius.double()
    rank = torch.arange(1, rows.size(1) + 1, dtype=torch.double, device=rows.device)
    last = (ordered * rank > surplus).sum(1, keepdim=True).clamp(min=1)
    threshold = surplus.gather(1, last - 1) / last
    kept = (magnitude - threshold.clamp(min=0)).clamp(min=0)
    # The difference of large numbers misses a tiny radius.
    kept = kept * (radius.double() / kept.sum(1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)).clamp(max=1)
    return (rows.sign() * kept).to(rows.dtype)
