"""Budgets under which no attack can change a ranking."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import ThreatModel
from mmgraph_robust.attacks.norms import ORDER
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.schema import with_features
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.evaluation.ranking import Evaluator, embed
from mmgraph_robust.metrics.ranking import edges_of
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.utils import child_generator, chunks

# Float32 rounds scores, and perturbed features when they are stored: an allowance relative to the lengths of what is
# multiplied, some thirty times the unit of rounding. Sums of hundreds of terms were not seen to err by more, though the
# worst case, a unit for each term, would.
_ROUNDING = 2e-6
# By which part an attack's change may overrun its budget before it is refused.
_EXCESS = 2e-5
_BLOCK_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class Certificate:
    """What no attack under a threat model can do, whatever it knows and however it searches: in exact arithmetic, with
    an allowance for float32 that is measured, not proven.

    Attributes:
        method: ``"linear"``, exact for each pair; ``"lipschitz"``, a valid bound; ``"no path"``, features do not
            reach the score.
        budget: The threat model's budget.
        clean: ``recall@k`` on the clean features.
        certified: A lower bound on ``recall@k`` under every attack of that budget.
        pairs: ``[2, n]`` the (user, item) pairs of the split.
        hit: ``[n]`` whether the item stands in the user's clean list.
        largest: ``[n]`` the largest budget, in the threat model's unit, below which the item cannot be pushed out of
            the list; 0 where it is not in it, infinite where nothing moves it.
        users: ``[m]`` users with a relevant item.
        largest_list: ``[m]`` the largest budget below which no item can be pushed out of the user's list.
    """

    method: Literal["linear", "lipschitz", "no path"]
    budget: float
    clean: float
    certified: float
    pairs: Tensor
    hit: Tensor
    largest: Tensor
    users: Tensor
    largest_list: Tensor

    def recall(self, budget: float) -> float:
        """The certified recall at another budget; at 0 it is the clean recall.

        Raises:
            BudgetError: If the budget is negative or not finite.
        """
        return certified_recall(self.pairs[0], self.hit, self.largest, budget)

    def describe(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""
        of_hits = self.largest[self.hit]
        middle = float(of_hits.median()) if of_hits.numel() else None
        # A list that no budget changes has none that JSON could hold.
        middle = None if middle is None or math.isinf(middle) else middle
        whole = self.largest_list > self.budget if self.budget > 0 else torch.ones_like(self.users, dtype=torch.bool)
        return {
            "method": self.method,
            "budget": self.budget,
            "clean_recall": self.clean,
            "certified_recall": self.certified,
            "median_largest_budget_of_hits": middle,
            "unchanged_lists": float(whole.double().mean()),
        }


def certify(
    model: Recommender,
    data: HeteroData,
    threat: ThreatModel,
    *,
    k: int = 20,
    split: Literal["val", "test"] = "test",
    mask_validation: bool = False,
) -> Certificate:
    r"""The largest budgets under which no attack on the features can push an item out of a user's top `k`.

    For models whose score is linear in the features, :math:`s(u, i) = s_{rest} + \sum_m p_u^\top W_m^\top x_i^m`
    (:meth:`~mmgraph_robust.models.Recommender.linear_projection`; here VBPR). With
    :math:`c_u^m = \Vert W_m p_u \Vert_*` in the dual of the budget's norm, an item that may change by :math:`r_i^m`
    moves its score by at most :math:`b_{ui} = \sum_m r_i^m c_u^m`, and can move it so far. Hence

    - per item: `i` leaves the list of `u` if and only if `k` rivals reach :math:`s_{uj} + b_{uj} \ge s_{ui} - b_{ui}`:
      exact for each pair, since the attacker may spend every item's budget on the same pair; a lower bound for the
      recall, since he may not do so for all users at once.
    - over the whole matrix in L2: :math:`\min_t t^2 + \sum_{j} (s_{ui} - s_{uj} - t)_+^2` over the `k` nearest rivals,
      against :math:`(\sum_m R^m c_u^m)^2`; for one rival it is the pair's :math:`\sqrt 2 R c_u`. In L1 the sum of the
      moves is bounded instead, in Linf every entry, so that the rows are free of each other. An attacker who owns some
      items only is given all of them here, which keeps the bound valid.

    For models of one's own in which an item's vector depends on its own features alone, with a bound :math:`L` on how
    fast (:meth:`~mmgraph_robust.models.Recommender.row_lipschitz`), :math:`c_u = L \Vert p_u \Vert_2` is valid and
    loose. It is none for GNNs, where users and other items move along; for those, :func:`smoothed_recall`.

    Args:
        model: The model.
        data: The clean data.
        threat: What the attacker may do; what he knows, and the box that binds him further, play no part.
        k: Length of the lists.
        split: The split whose interactions are to be found.
        mask_validation: See :class:`~mmgraph_robust.evaluation.Evaluator`.

    Raises:
        ConfigError: If the model does not read a modality, or no bound can be derived for it.
    """
    features_of(data, threat.modalities)
    evaluator = Evaluator(data, split, [k], ["recall"], mask_validation)
    embeddings = embed(model, data).detach()
    lists = evaluator.lists(embeddings)
    pairs, hit = evaluator.pairs, evaluator.found(lists)
    method = _method(model, threat)
    if method == "no path":
        radius = torch.full((pairs.size(1),), math.inf, dtype=torch.double)
        whole = torch.full((evaluator.users.numel(),), math.inf, dtype=torch.double)
    else:
        _check_declaration(model, data, threat, method)
        bound = _Bound(model, data, threat, embeddings, evaluator, k)
        radius = bound(pairs[0], pairs[1])
        listed = lists >= 0
        owner = evaluator.users[:, None].expand_as(lists)[listed]
        whole = torch.full(lists.shape, math.inf, dtype=torch.double)
        whole[listed] = bound(owner, lists[listed])
        whole = whole.amin(1)
    largest = torch.where(hit, radius, 0.0)
    clean, certified = (certified_recall(pairs[0], hit, largest, b) for b in (0.0, threat.budget))
    return Certificate(method, threat.budget, clean, certified, pairs, hit, largest, evaluator.users, whole)


def certified_recall(user: Tensor, hit: Tensor, largest: Tensor, budget: float) -> float:
    """The mean over users of the share of their pairs that hit and stay at a budget; at 0, of those that hit.

    Args:
        user: ``[n]`` the user of each pair.
        hit: ``[n]`` whether the pair hits at no budget.
        largest: ``[n]`` the budget below which it stays.
        budget: The budget.

    Raises:
        BudgetError: If the budget is negative or not finite.
    """
    if not math.isfinite(budget) or budget < 0:
        raise BudgetError(f"'budget' expects a finite number >= 0 (got {budget})")
    kept = hit if budget == 0 else hit & (largest > budget)
    total = torch.bincount(user)
    share = torch.bincount(user, weights=kept.double()) / total.clamp(min=1)
    return float(share[total > 0].mean())


class _Bound:
    """The largest budget at which a pair's item stays among a user's `k` best."""

    def __init__(
        self,
        model: Recommender,
        data: HeteroData,
        threat: ThreatModel,
        embeddings: Embeddings,
        evaluator: Evaluator,
        k: int,
    ) -> None:
        self.threat = threat
        self.seen = evaluator.seen
        self.k = k
        # On the CPU, in float64.
        self.user, self.item = (x.cpu().double() for x in embeddings.concatenated())
        features = {m: x.cpu() for m, x in model.features(data).items()}
        unit = dataclasses.replace(threat, budget=1.0).radii(features)
        self.allowed = threat.allowed(self.item.size(0), torch.device("cpu")).double().flatten()
        self.reach = {m: _reach(model, m, threat.norm, embeddings.user[m].cpu().double()) for m in threat.modalities}
        self.size = {m: r.double().flatten().expand(self.item.size(0)) for m, r in unit.items()}
        self.slack = _ROUNDING * self.user.norm(dim=1) * self.item.norm(dim=1).max()
        order = ORDER[threat.norm]
        for m, reach in self.reach.items():
            self.slack = self.slack + _ROUNDING * reach * features[m].double().norm(order, dim=1).max()

    def __call__(self, user: Tensor, item: Tensor) -> Tensor:
        """``[n]`` for pairs of users and items."""
        rows = max(1, _BLOCK_ELEMENTS // max(self.item.size(0), self.k**2))
        parts = [self._part(user[a:b], item[a:b]) for a, b in chunks(user.numel(), rows)]
        return torch.cat(parts) * (1 - _EXCESS)

    def _part(self, user: Tensor, item: Tensor) -> Tensor:
        # The pairs of a user stand beside each other, and have her scores in common.
        distinct, place = torch.unique_consecutive(user, return_inverse=True)
        score = (self.user[distinct] @ self.item.t())[place]
        gap = score.gather(1, item[:, None]) - score
        ids = torch.arange(gap.size(1))
        behind = (gap > 0) | ((gap == 0) & (ids > item[:, None]))
        # Who stands before the item needs no budget.
        gap = torch.where(behind, (gap - self.slack[user, None]).clamp(min=0), -1.0)
        if self.threat.scope == "matrix" and self.threat.norm != "linf":
            nearest = self._nearest(gap, user, item)
            reach = torch.stack([self.reach[m][user] * self.size[m][0] for m in self.reach]).sum(0)
            return _budget(_cost(nearest.clamp(min=0), self.threat.norm), reach)
        move = torch.stack([self.reach[m][user, None] * self.size[m] for m in self.reach]).sum(0) * self.allowed
        both = move + move.gather(1, item[:, None])
        return self._nearest(torch.where(gap < 0, gap, _budget(gap, both)), user, item)[:, -1].clamp(min=0)

    def _nearest(self, value: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """``[n, k]`` the least values among the rivals of each pair's item, infinite where there are fewer."""
        value[edges_of(self.seen, user)] = math.inf
        value.scatter_(1, item[:, None], math.inf)
        missing = max(0, self.k - value.size(1))
        value = torch.nn.functional.pad(value, (0, missing), value=math.inf)
        return value.topk(self.k, dim=1, largest=False).values


def _budget(need: Tensor, reach: Tensor) -> Tensor:
    # What nothing moves stays where it is, at any budget.
    return torch.where(reach > 0, need / reach, math.inf)


def _cost(gap: Tensor, norm: str) -> Tensor:
    """The smallest norm of score changes with which an item falls behind rivals that are `gap` below it."""
    if norm == "l1":
        # Pulling the item down by the second largest gap and lifting the last rival costs no more than the largest.
        return gap.amax(1)
    far = torch.isinf(gap).any(1)
    gap = gap.masked_fill(torch.isinf(gap), 0).sort(1, descending=True).values
    count = torch.arange(1, gap.size(1) + 1, dtype=gap.dtype)
    # The best pull is the minimum of one of these parabolas, so the least of all values is the minimum.
    pull = gap.cumsum(1) / (1 + count)
    square = pull.square() + (gap[:, None, :] - pull[:, :, None]).clamp(min=0).square().sum(2)
    return square.amin(1).sqrt().masked_fill(far, math.inf)


def _reach(model: Recommender, modality: str, norm: str, user: Tensor) -> Tensor:
    """``[num_users]`` how far a unit of budget moves an item's score at most."""
    projection = model.linear_projection(modality)
    if projection is None:
        factor = math.sqrt(model.feature_dims[modality]) if norm == "linf" else 1.0
        return factor * (model.row_lipschitz(modality) or 0.0) * user.norm(dim=1)
    weight = projection.detach().cpu().double()
    dual = {"l2": 2.0, "linf": 1.0, "l1": math.inf}[norm]
    rows = max(1, _BLOCK_ELEMENTS // weight.size(0))
    parts = [torch.linalg.vector_norm(user[a:b] @ weight.t(), dual, dim=1) for a, b in chunks(user.size(0), rows)]
    return torch.cat(parts)


def _method(model: Recommender, threat: ThreatModel) -> Literal["linear", "lipschitz", "no path"]:
    if model.feature_path == "none":
        return "no path"
    for name in threat.modalities:
        model.check_modality(name)
    if all(model.linear_projection(m) is not None for m in threat.modalities):
        return "linear"
    if all(model.linear_projection(m) is not None or model.row_lipschitz(m) is not None for m in threat.modalities):
        return "lipschitz"
    raise ConfigError(
        f"no certificate can be derived for '{type(model).__name__}': it declares neither 'linear_projection' nor "
        "'row_lipschitz', because users or other items depend on the features of an item (as in every graph network); "
        "'smoothed_recall' certifies any model, for its randomised version"
    )


def _check_declaration(model: Recommender, data: HeteroData, threat: ThreatModel, method: str) -> None:
    """What a model says about itself is tried on one random change before a certificate rests on it."""
    generator = child_generator(0, "certificate")
    before = embed(model, data)
    for name, x in features_of(data, threat.modalities).items():
        change = 0.1 * x.square().mean().sqrt().cpu() * torch.randn(x.shape, generator=generator)
        after = embed(model, with_features(data, {name: x + change.to(x.device)}))
        change = change.to(model.device)
        still = all(torch.equal(before.user[c], after.user[c]) for c in before.channels)
        still &= all(torch.equal(before.item[c], after.item[c]) for c in before.channels if c != name)
        projection = model.linear_projection(name)
        moved = after.item[name] - before.item[name]
        if projection is not None:
            told = change @ projection.detach()
            right = told.shape == moved.shape and float((moved - told).norm()) <= 1e-3 * float(told.norm())
        else:
            bound = (model.row_lipschitz(name) or 0.0) * change.norm(dim=1)
            right = bool((moved.norm(dim=1) <= 1.001 * bound + 1e-6).all())
        if not (still and right):
            raise ConfigError(
                f"'{type(model).__name__}' does not do what it declares for '{name}' ({method}): a random change of "
                "its features moved something else, or otherwise; correct 'linear_projection' or 'row_lipschitz'"
            )
