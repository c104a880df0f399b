"""A search that swaps neighbours in the item graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.item_graph import Candidates, rebuilt_modalities
from mmgraph_robust.attacks.norms import ORDER
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.sparse import SoftGraph
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import chunks

# How many plans that fail alone end the search.
_PATIENCE = 8


@dataclass
class _Moves:
    """At most one planned move per item: along `direction`, by `size`, for a gain as the gradient predicts it."""

    gain: Tensor
    direction: Tensor
    size: Tensor

    @classmethod
    def none(cls, x: Tensor) -> _Moves:
        """No plan for any item."""
        return cls(x.new_zeros(x.size(0)), torch.zeros_like(x), x.new_zeros(x.size(0)))

    def offer(self, mover: Tensor, gain: Tensor, direction: Tensor, size: Tensor) -> None:
        """Keeps the best plan of every item; of equal ones the first."""
        best = self.gain.scatter_reduce(0, mover, gain, "amax")
        place = torch.arange(mover.numel(), device=mover.device)
        wins = (gain > self.gain[mover]) & (gain == best[mover])
        first = torch.full_like(self.gain, mover.numel(), dtype=torch.long)
        first = first.scatter_reduce(0, mover[wins], place[wins], "amin")
        mover = (first < place.numel()).nonzero().flatten()
        chosen = first[mover]
        self.gain[mover], self.direction[mover], self.size[mover] = gain[chosen], direction[chosen], size[chosen]


@dataclass(frozen=True)
class _Swaps:
    """Swaps in the rows `row`: `item` passes `rival`, upwards (sign 1) or downwards (-1)."""

    row: Tensor
    item: Tensor
    rival: Tensor
    sign: Tensor
    cosine: Tensor
    limit: Tensor
    gain: Tensor

    @classmethod
    def of(cls, near: Candidates, worth: Tensor) -> _Swaps:
        """Every swap at the end of a list that the objective wants, given the worth of each edge."""
        # The item itself is no candidate.
        cosine, neighbour, worth = near.cosine[:, 1:], near.neighbour[:, 1:], worth[:, 1:]
        inside = torch.arange(cosine.size(1), device=cosine.device) < near.k - 1
        opposite = torch.where(inside, near.k - 1, near.k - 2)
        sign = torch.where(inside, -1.0, 1.0).to(cosine.dtype)
        gain = sign * (worth - worth[:, opposite])
        row, column = (gain > 0).nonzero(as_tuple=True)
        rival = opposite[column]
        return cls(
            row,
            neighbour[row, column],
            neighbour[row, rival],
            sign[column],
            cosine[row, column],
            cosine[row, rival],
            gain[row, column],
        )

    def part(self, a: int, b: int) -> _Swaps:
        """Some of them."""
        return _Swaps(*(getattr(self, field.name)[a:b] for field in dataclasses.fields(self)))


class _Mover:
    """Finds the smallest moves that turn the order of two cosines, under a threat model.

    Args:
        problem: The search space.
        modality: The modality that moves.
        delta: ``[num_items, dim]`` how far it has moved.
        overshoot: By which part a move goes beyond the point where the order turns.
    """

    def __init__(self, problem: Problem, modality: str, delta: Tensor, overshoot: float) -> None:
        self.clean = problem.features[modality]
        self.delta = delta
        self.x = self.clean + delta
        self.unit = F.normalize(self.x, dim=1)
        self.size = self.x.norm(dim=1)
        self.allowed = problem.allowed.flatten() > 0
        self.threat = dataclasses.replace(problem.threat, scope="item")
        self.room = _room(problem, modality, delta)
        self.overshoot = overshoot

    def row(self, swaps: _Swaps) -> tuple[Tensor, Tensor, Tensor]:
        """Moves of the rows themselves: feasible, direction and size."""
        normal = swaps.sign[:, None] * (self.unit[swaps.item] - self.unit[swaps.rival])

        def margin(x: Tensor) -> Tensor:
            return (x * normal).sum(1)

        return self._reach(swaps.row, normal, margin, 1e-6 * self.size[swaps.row])

    def item(self, swaps: _Swaps) -> tuple[Tensor, Tensor, Tensor]:
        """Moves of the items that pass their rivals: feasible, direction and size."""
        target = self.unit[swaps.row]
        tangent = target - swaps.cosine[:, None] * self.unit[swaps.item]
        normal = swaps.sign[:, None] * tangent / self.size[swaps.item].clamp(min=1e-12)[:, None]

        def margin(x: Tensor) -> Tensor:
            return swaps.sign * ((F.normalize(x, dim=1) * target).sum(1) - swaps.limit)

        return self._reach(swaps.item, normal, margin, torch.full_like(swaps.cosine, 1e-6))

    def _reach(
        self, mover: Tensor, normal: Tensor, margin: Callable[[Tensor], Tensor], least: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        direction = self.threat.steepest(normal)
        rate = (direction * normal).sum(1)
        short = (-margin(self.x[mover])).clamp(min=0) + least
        size = short / rate.clamp(min=1e-12) * (1 + self.overshoot)
        reached = least
        for again in (True, False):
            moved = self.threat.project(self.delta[mover] + size[:, None] * direction, self.room[mover])
            reached = margin(self.clean[mover] + moved)
            if again:
                # The rim is curved and the budget's ball too: one secant step.
                part = (short / (reached + short).clamp(min=1e-12)).clamp(1, 2)
                size = torch.where(reached > 0, size, size * part * (1 + self.overshoot))
        return (reached > 0) & (rate > 0) & self.allowed[mover], direction, size


class NeighbourSwap(Attack):
    r"""Greedy search over swaps of neighbours, for graphs whose plain gradient is zero.

    An edge's worth is the objective's derivative with respect to its weight. For every item `r`, a next candidate `c`
    may take the place of the last neighbour `l`, or a neighbour that of the first candidate; that is worth
    :math:`g_{rc} - g_{rl}`, and happens when `r` or `c` moves so far that the order of two cosines turns. For `r` this
    is a half-space, :math:`\langle x_r, \hat x_c - \hat x_l \rangle > 0`, so the smallest change is known; for `c` the
    rim of a cone, followed along its normal. Each item plans its best affordable swap, the best plans are carried out
    together, the true graph is built and the objective computed: if it has not grown, the worse half of the plans is
    dropped, and so on. A round follows upon a success, from the features reached, until nothing more is gained.

    Args:
        rounds: Number of successes at most.
        candidates: How many next items stand beside an item's neighbours.
        objective: What is maximised.
        start: An attack to begin with, such as :class:`~mmgraph_robust.attacks.GraphRelaxation` (default: the clean
            features).
        overshoot: By which part a move goes beyond the point where the order turns.
        memory: Bytes for the vectors that are compared at a time.
    """

    needs_item_graph: ClassVar[bool] = True
    configurable: ClassVar[bool] = False

    def __init__(
        self,
        rounds: int = 40,
        candidates: int = 10,
        objective: str = "recall",
        start: Attack | None = None,
        overshoot: float = 0.02,
        memory: int = 1 << 27,
    ) -> None:
        self._check_counts(rounds=rounds, candidates=candidates, memory=memory)
        self._check(overshoot=(overshoot > 0, "> 0", overshoot))
        self.rounds = rounds
        self.candidates = candidates
        self.objective = check_objective(objective)
        self.start = start
        self.overshoot = overshoot
        self.memory = memory

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values."""
        return super().describe() | {"start": None if self.start is None else self.start.describe()}

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """The best features met."""
        delta = problem.zero()
        if self.start is not None:
            chosen = self.start.objective_for(problem.threat)
            first = problem if chosen == self.objective else problem.with_objective(chosen)
            delta = problem.project(self.start.run(first, generator, progress))
            problem.blind = first.blind
        names = rebuilt_modalities(problem)
        if not names:
            # Nothing here follows the features.
            problem.blind = problem.blind if self.start else set(problem.threat.modalities)
            return delta
        value = problem.value(delta)
        most = 1 << 30
        bar = tqdm(total=self.rounds, desc=type(self).__name__, disable=not progress, leave=False)
        for _ in range(self.rounds):
            moves = self._plan(problem, delta, names)
            found, most = self._carry_out(problem, delta, value, moves, most)
            if found is None:
                break
            delta, value = found
            bar.update()
        bar.close()
        return delta

    def _carry_out(
        self,
        problem: Problem,
        delta: Features,
        value: float,
        moves: dict[str, _Moves],
        most: int,
    ) -> tuple[tuple[Features, float] | None, int]:
        """The first set of the best plans that raises the objective, and how many to begin with next time."""
        gains = torch.cat([plan.gain for plan in moves.values()])
        order = torch.argsort(gains, descending=True, stable=True)[: int((gains > 0).sum())]
        count, failed = min(order.numel(), most), 0
        while order.numel() > 0 and failed < _PATIENCE:
            taken = torch.zeros_like(gains)
            taken[order[:count]] = 1
            trial = dict(delta)
            for (name, plan), mine in zip(moves.items(), taken.split(problem.allowed.size(0)), strict=True):
                trial[name] = delta[name] + plan.direction * (plan.size * mine)[:, None]
            trial = problem.project(trial)
            reached = problem.value(trial)
            if reached > value:
                return (trial, reached), 4 * count
            if count > 1:
                count //= 2
            else:
                # The best plan alone does not help: the next.
                order, failed = order[1:], failed + 1
        return None, most

    def _plan(self, problem: Problem, delta: Features, names: list[str]) -> dict[str, _Moves]:
        features = problem.perturbed(delta)
        with torch.enable_grad():
            near = {m: Candidates.of(features[m], problem.model.knn_k or 1, self.candidates) for m in names}
            chosen = {m: near[m].chosen().requires_grad_() for m in near}
            soft = {m: SoftGraph.from_candidates(near[m].neighbour, chosen[m], features[m]) for m in near}
            graph = problem.graph.with_item_graphs(problem.graph.item_graphs | soft)
            value = problem.objective(problem.model(features, graph))
            found: tuple[Tensor | None, ...] = (None,) * len(near)
            if value.requires_grad:
                found = torch.autograd.grad(value, list(chosen.values()), allow_unused=True)
        worth = {m: torch.zeros_like(near[m].cosine) if g is None else g for m, g in zip(near, found, strict=True)}
        problem.blind = {m for m, g in worth.items() if not bool(g.any())}
        return {m: self._moves(_Mover(problem, m, delta[m], self.overshoot), near[m], worth[m]) for m in near}

    def _moves(self, mover: _Mover, near: Candidates, worth: Tensor) -> _Moves:
        plan = _Moves.none(mover.x)
        if not near.open:
            return plan
        swaps = _Swaps.of(near, worth)
        for a, b in chunks(swaps.row.numel(), self.memory // (48 * mover.x.size(1))):
            part = swaps.part(a, b)
            able, direction, size = mover.row(part)
            able_item, direction_item, size_item = mover.item(part)
            # A swap is planned by the one that has to give up less of its budget.
            cost, cost_item = size / mover.room[part.row, 0], size_item / mover.room[part.item, 0]
            own = able & (~able_item | (cost <= cost_item))
            able = able | able_item
            plan.offer(
                torch.where(own, part.row, part.item)[able],
                part.gain[able],
                torch.where(own[:, None], direction, direction_item)[able],
                torch.where(own, size, size_item)[able],
            )
        return plan


def _room(problem: Problem, modality: str, delta: Tensor) -> Tensor:
    """``[num_items, 1]`` how large each item's own change may be while the others keep theirs."""
    radius, threat = problem.radii[modality], problem.threat
    if threat.scope == "item":
        return radius
    order = ORDER[threat.norm]
    if order == math.inf:
        return radius.expand(delta.size(0), 1)
    own = delta.double().norm(order, dim=1, keepdim=True) ** order
    return (radius.double() ** order - own.sum() + own).clamp(min=0).pow(1 / order).to(delta.dtype)
