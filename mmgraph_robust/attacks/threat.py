"""What an attacker may do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.goals import Goal, Untargeted, check_ids
from mmgraph_robust.attacks.norms import NORMS, Norm
from mmgraph_robust.errors import BudgetError, ConfigError, unknown_name
from mmgraph_robust.typing import Features

Knowledge = Literal["white", "transfer", "scores", "ranks"]
ModalitySet = str | Sequence[str]
_CHOICES = {
    "scope": ("item", "matrix"), "norm": NORMS, "labels": ("train", "val", "test"), "graph": ("frozen", "rebuilt"),
    "knowledge": ("white", "transfer", "scores", "ranks"),
}  # fmt: skip


@dataclass(frozen=True)
class ThreatModel:
    r"""What the attacker may touch, how far, what he knows and what he wants.

    With ``scope="item"`` every item has a budget of its own, relative to its own features,
    :math:`\Vert \delta_i \Vert \le \rho \Vert x_i \Vert`. With ``scope="matrix"`` one budget,
    :math:`\Vert \Delta \Vert \le \rho \Vert X \Vert` over all entries, may be spent on a few items. For
    ``norm="linf"`` a relative budget is in units of the root mean square of the row or matrix, so that l2 and linf
    reach equally far.

    Args:
        modalities: The modalities that may be changed.
        budget: Size :math:`\rho` of the change; 0.05 is 5 %.
        scope: Whose norm the budget binds.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``.
        relative: Whether `budget` is relative to the clean features, or in their own unit.
        items: Ids of the items that may be changed (default: all).
        labels: The split whose interactions the attacker knows as positives. ``"test"`` is the literature's upper
            bound on his knowledge.
        graph: For models with a graph of similar items: ``"rebuilt"`` from the perturbed features, as when the shop
            builds its graph after the items were uploaded, or ``"frozen"``, the graph of the clean features, for which
            the attacker comes too late.
        goal: What he wants: :class:`~mmgraph_robust.attacks.Untargeted`, :class:`~mmgraph_robust.attacks.Hide` or
            :class:`~mmgraph_robust.attacks.Promote`.
        box: Smallest and largest allowed entry per modality, ``"clean"`` for those of the clean features, or no limit.
        knowledge: ``"white"`` (the model and its gradients), ``"transfer"`` (other models only, the victim is never
            asked), ``"scores"`` or ``"ranks"`` (what the victim answers to uploaded features).
        queries: How often the victim may be asked under ``"scores"`` and ``"ranks"``: each query uploads features and
            sees the scores, or the ranked lists, of all users (default: what the attack itself stops at).

    Raises:
        BudgetError: If the budget is negative or not finite.
        ConfigError: If another argument is none of the known.
    """

    modalities: Sequence[str]
    budget: float = 0.05
    scope: Literal["item", "matrix"] = "item"
    norm: Norm = "l2"
    relative: bool = True
    items: Sequence[int] | None = None
    labels: Literal["train", "val", "test"] = "test"
    graph: Literal["frozen", "rebuilt"] = "rebuilt"
    goal: Goal = field(default_factory=Untargeted)
    box: Mapping[str, Sequence[float]] | Literal["clean"] | None = None
    knowledge: Knowledge = "white"
    queries: int | None = None

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
            if not self.items:
                raise ConfigError("'items' expects at least one item, or None for all (got [])")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"'{name}' expects one of {list(known)} (got '{getattr(self, name)}')")
        if not isinstance(self.goal, Goal):
            raise ConfigError(f"'goal' expects Untargeted(), Hide(...) or Promote(...) (got {self.goal!r})")
        if self.queries is not None and self.queries < 1:
            raise ConfigError(f"'queries' expects a whole number >= 1 (got {self.queries})")
        if self.queries is not None and self.knowledge not in ("scores", "ranks"):
            raise ConfigError(f"'queries' bounds knowledge='scores' or 'ranks' (got knowledge='{self.knowledge}')")
        self._check_box()

    def _check_box(self) -> None:
        if self.box is None or self.box == "clean":
            return
        if not isinstance(self.box, Mapping):
            raise ConfigError(f"'box' expects (low, high) per modality, 'clean' or None (got {self.box!r})")
        for name, limits in self.box.items():
            if name not in self.modalities:
                raise ConfigError(f"'box': {unknown_name('attacked modality', name, self.modalities)}")
            if len(limits) != 2 or not limits[0] <= limits[1]:
                raise ConfigError(f"'box' of modality '{name}' expects (low, high) with low <= high (got {limits})")
        object.__setattr__(self, "box", {name: (float(b[0]), float(b[1])) for name, b in self.box.items()})

    def radii(self, features: Features) -> Features:
        """The budget of each attacked modality in the unit of its features.

        Args:
            features: The clean features.

        Shapes:
            - **output:** per modality ``[num_items, 1]`` (``scope="item"``) or ``[1, 1]``
        """
        known = norms.sizes({m: features[m] for m in self.modalities}, self.norm, self._whole)
        # Not scaled by the clean size, every row has the same radius.
        return {m: self.budget * (x if self.relative else torch.ones_like(x)).float() for m, x in known.items()}

    def allowed(self, num_items: int, device: torch.device) -> Tensor:
        """``[num_items, 1]`` one for items that may be changed, else zero."""
        if self.items is None:
            return torch.ones(num_items, 1, device=device)
        check_ids("items", self.items, num_items)
        mask = torch.zeros(num_items, 1, device=device)
        mask[list(self.items)] = 1
        return mask

    def bounds(self, features: Features) -> dict[str, tuple[float, float]]:
        """The smallest and largest allowed entry of each modality that has such limits.

        Args:
            features: The clean features.

        Raises:
            ConfigError: If the box leaves out clean features; names the modality.
        """
        limits = {m: (float(features[m].min()), float(features[m].max())) for m in self.modalities}
        if self.box is None or self.box == "clean":
            return {} if self.box is None else limits
        result = {}
        for name, given in self.box.items():
            # As features are stored, so that what was clipped to a limit does not lie outside of it.
            low, high = torch.tensor(given, dtype=features[name].dtype).tolist()
            if limits[name][0] < low or limits[name][1] > high:
                raise ConfigError(
                    f"'box' of modality '{name}' is [{low:g}, {high:g}] but its clean features reach from "
                    f"{limits[name][0]:g} to {limits[name][1]:g}: a box has to hold them, or use box='clean'"
                )
            result[name] = (low, high)
        return result

    def steepest(self, gradient: Tensor, entries: int = 1) -> Tensor:
        """The step of unit budget that rises fastest along `gradient`; zero where the gradient is zero.

        Args:
            gradient: ``[num_items, dim]``
            entries: For l1, the number of entries that share the step; one is the steepest.
        """
        return norms.steepest(gradient, self.norm, self._whole, entries)

    def project(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The closest perturbation inside the budget."""
        return norms.project(delta, radius, self.norm, self._whole)

    def apply(self, x: Tensor, delta: Tensor, radius: Tensor) -> Tensor:
        """`x` plus a change inside the budget, inside it also as float32 stores the sum."""
        return norms.fit_rounded(x, delta, radius, self.norm, self._whole)

    def excess(self, delta: Tensor, radius: Tensor) -> float:
        """By how much a row (or the matrix) overruns its own budget at most, as a part of it (0 if all hold theirs).

        Args:
            delta: ``[num_items, dim]`` change.
            radius: Budgets of :meth:`radii`.
        """
        length = norms.size(delta, self.norm, self._whole)
        over = (length - radius.double()) / radius.double().clamp(min=torch.finfo(torch.float32).tiny)
        # What is no number holds no budget.
        return max(0.0, float(over.nan_to_num(nan=float("inf")).max())) if over.numel() else 0.0

    @property
    def _whole(self) -> bool:
        return self.scope == "matrix"

    def describe(self) -> dict[str, Any]:
        """The threat as plain JSON values."""
        box = {m: list(b) for m, b in self.box.items()} if isinstance(self.box, Mapping) else self.box
        return {
            "modalities": list(self.modalities),
            "budget": self.budget,
            "scope": self.scope,
            "norm": self.norm,
            "relative": self.relative,
            "items": None if self.items is None else list(self.items),
            "labels": self.labels,
            "graph": self.graph,
            "goal": self.goal.describe(),
            "box": box,
            "knowledge": self.knowledge,
            "queries": self.queries,
        }


def modality_sets(names: Sequence[str], sets: Sequence[ModalitySet] = ("each", "all")) -> list[list[str]]:
    """The sets of modalities that an evaluation attacks, every set once and the smaller first.

    Args:
        names: The modalities at hand.
        sets: Which sets: ``"each"`` of them alone, ``"all"`` jointly, the name of one for it alone, or a list of names
            for these jointly.

    Raises:
        ConfigError: If a name is none of the modalities, or a list holds none, or one twice.
    """
    # A word would be read letter by letter.
    if isinstance(sets, str):
        raise ConfigError(f"'sets' expects a list (got {sets!r})")
    found: list[tuple[str, ...]] = []
    for chosen in sets:
        if chosen == "each":
            found += [(name,) for name in names]
        elif chosen == "all":
            found += [tuple(names)] if names else []
        else:
            found.append(_named(names, chosen))
    # The names in one order, however they were given: what is the same set is one threat.
    return [list(each) for each in sorted(dict.fromkeys(found), key=lambda e: (len(e), [*map(names.index, e)]))]


def _named(names: Sequence[str], chosen: ModalitySet) -> tuple[str, ...]:
    wanted = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(wanted, Sequence):
        raise ConfigError(f"a set of modalities expects a name, or a list of names (got {chosen!r})")
    for name in wanted:
        if name not in names:
            known = [*names, "each", "all"] if isinstance(chosen, str) else names
            raise ConfigError(unknown_name("modality", name, known))
    if not wanted or len(set(wanted)) < len(wanted):
        raise ConfigError(f"a set of modalities expects different names, at least one (got {list(wanted)})")
    return tuple(name for name in names if name in wanted)


def expand(threat: ThreatModel, sets: Sequence[ModalitySet] = ("each", "all")) -> list[ThreatModel]:
    """The same threat on each of its modalities alone, on all jointly, or on other sets of them.

    Args:
        threat: The threat; its box keeps the limits of the modalities that remain.
        sets: See :func:`modality_sets`.

    Raises:
        ConfigError: See :func:`modality_sets`.
    """
    return [restrict(threat, chosen) for chosen in modality_sets(threat.modalities, sets)]


def restrict(threat: ThreatModel, names: Sequence[str]) -> ThreatModel:
    """The same threat on some of its modalities; its box keeps their limits.

    Args:
        threat: The threat.
        names: The modalities.
    """
    box = threat.box
    if isinstance(box, Mapping):
        box = {m: b for m, b in box.items() if m in names} or None
    return replace(threat, modalities=names, box=box)
