"""What an attacker may do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.typing import Features


@dataclass(frozen=True)
class ThreatModel:
    r"""What the attacker may touch, how far, and what he knows.

    With ``scope="item"`` every item has a budget of its own, relative to its own features,
    :math:`\Vert \delta_i \Vert \le \rho \Vert x_i \Vert`. With ``scope="matrix"`` one budget,
    :math:`\Vert \Delta \Vert_F \le \rho \Vert X \Vert_F`, may be spent on a few items. For ``norm="linf"`` a relative
    budget is in units of the root mean square of the row or matrix, so that both norms reach equally far.

    Args:
        modalities: The modalities that may be changed.
        budget: Size :math:`\rho` of the change; 0.05 is 5 %.
        scope: Whose norm the budget binds.
        norm: ``"l2"`` or ``"linf"``.
        relative: Whether `budget` is relative to the clean features, or in their own unit.
        items: Ids of the items that may be changed (default: all).
        labels: The split whose interactions the attacker knows as positives. ``"test"`` is the literature's upper
            bound on his knowledge.
        graph: For models with a graph of similar items: ``"rebuilt"`` from the perturbed features, as when the shop
            builds its graph after the items were uploaded, or ``"frozen"``, the graph of the clean features, for which
            the attacker comes too late.

    Raises:
        BudgetError: If the budget is negative or not finite.
        ConfigError: If another argument is none of the known.
    """

    modalities: Sequence[str]
    budget: float = 0.05
    scope: Literal["item", "matrix"] = "item"
    norm: Literal["l2", "linf"] = "l2"
    relative: bool = True
    items: Sequence[int] | None = None
    labels: Literal["train", "val", "test"] = "test"
    graph: Literal["frozen", "rebuilt"] = "rebuilt"

    def __post_init__(self) -> None:
        if isinstance(self.modalities, str):
            raise ConfigError(f"'modalities' expects a list of names (got the string '{self.modalities}')")
        object.__setattr__(self, "modalities", tuple(self.modalities))
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ConfigError(f"'modalities' expects different names, at least one (got {list(self.modalities)})")
        if not math.isfinite(self.budget) or self.budget < 0:
            raise BudgetError(f"'budget' expects a finite number >= 0 (got {self.budget}); 0.05 means 5 %")
        if self.items is not None:
            object.__setattr__(self, "items", tuple(int(i) for i in self.items))
        for name, value, known in (
            ("scope", self.scope, ("item", "matrix")),
            ("norm", self.norm, ("l2", "linf")),
            ("labels", self.labels, ("train", "val", "test")),
            ("graph", self.graph, ("frozen", "rebuilt")),
        ):
            if value not in known:
                raise ConfigError(f"'{name}' expects one of {list(known)} (got '{value}')")

    def radii(self, features: Features) -> Features:
        """The budget of each attacked modality in the unit of its features.

        Args:
            features: The clean features.

        Shapes:
            - **output:** per modality ``[num_items, 1]`` (``scope="item"``) or ``[1, 1]``
        """
        radii = {}
        for name in self.modalities:
            x = features[name].double()
            rows = 1 if self.scope == "matrix" else x.size(0)
            if self.relative:
                size = x.reshape(rows, -1).norm(dim=1)
                if self.norm == "linf":
                    size = size / math.sqrt(x.numel() / rows)
            else:
                size = torch.ones(rows, dtype=torch.double, device=x.device)
            radii[name] = (self.budget * size).float()[:, None]
        return radii

    def allowed(self, num_items: int, device: torch.device) -> Tensor:
        """``[num_items, 1]`` one for items that may be changed, else zero."""
        if self.items is None:
            return torch.ones(num_items, 1, device=device)
        outside = [i for i in self.items if not 0 <= i < num_items]
        if outside:
            raise ConfigError(f"'items' expects ids from 0 to {num_items - 1} (got {outside[:5]})")
        mask = torch.zeros(num_items, 1, device=device)
        mask[list(self.items)] = 1
        return mask

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of unit budget that rises fastest along `gradient`; zero where the gradient is zero."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / self._norm(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)

    def project(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The closest perturbation inside the budget."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(delta, -radius), radius)
        size = self._norm(delta)
        return torch.where(size > radius, delta * (radius / size.clamp(min=torch.finfo(delta.dtype).tiny)), delta)

    def excess(self, delta: Tensor, radius: Tensor, features: Tensor | None = None) -> float:
        """By how much a row (or the matrix) overruns its own budget at most, as a part of it (0 if all hold theirs).

        Args:
            delta: ``[num_items, dim]`` change.
            radius: Budgets of :meth:`radii`.
            features: What `delta` was added to. float32 rounds a sum to 24 bits of its size; so much is no overrun.
        """
        delta, radius = delta.double(), radius.double()
        size = delta.abs().amax(1, keepdim=True) if self.norm == "linf" else self._norm(delta)
        if features is not None:
            size = size - 4e-7 * (features.abs().amax(1, keepdim=True) if self.norm == "linf" else self._norm(features))
        over = (size - radius) / radius.clamp(min=torch.finfo(torch.float32).tiny)
        return max(0.0, float(over.max())) if over.numel() else 0.0

    def _norm(self, x: Tensor) -> Tensor:
        # In float64: millions of squares added up in float32 miss the budget's last digits.
        wide = x.double() if self.scope == "item" else x.double().reshape(1, -1)
        return wide.norm(dim=1, keepdim=True).to(x.dtype)

    def describe(self) -> dict[str, object]:
        """The threat as plain JSON values."""
        return {
            "modalities": list(self.modalities),
            "budget": self.budget,
            "scope": self.scope,
            "norm": self.norm,
            "relative": self.relative,
            "items": None if self.items is None else list(self.items),
            "labels": self.labels,
            "graph": self.graph,
        }
