"""Certificates by randomised smoothing, for any model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.attacks import ThreatModel
from mmgraph_robust.attacks.threat import restrict
from mmgraph_robust.attacks.victim import frozen, graph_under
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.errors import BudgetError, ConfigError
from mmgraph_robust.evaluation.certificates import certified_recall
from mmgraph_robust.evaluation.ranking import Evaluator
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator, chunks


@dataclass(frozen=True)
class SmoothedCertificate:
    """What no attack can do to a model whose features get Gaussian noise before every ranking.

    Attributes:
        sigma: Standard deviation of the noise, in units of the root mean square of each modality's entries.
        budget: The threat model's budget.
        distance: Size of the largest allowed change at budget 1, in standard deviations of the noise.
        expected: Mean ``recall@k`` over the noise drawn.
        expected_lower: Its lower confidence bound.
        pairs: ``[2, n]`` the (user, item) pairs of the split.
        lower: ``[n]`` lower confidence bounds on the probability that the item stands in a noisy list, all at once.
        largest: ``[n]`` the largest budget below which the item stays in more than half of all noisy lists; 0 where
            the bound does not exceed a half.
        abstained: Share of the pairs for which the noise drawn decides neither for nor against the majority.
        confidence: Probability, over the noise drawn, with which the bounds hold (that of the mean, and those of all
            pairs together, each).
    """

    sigma: float
    budget: float
    distance: float
    expected: float
    expected_lower: float
    pairs: Tensor
    lower: Tensor
    largest: Tensor
    abstained: float
    confidence: float

    def recall(self, budget: float) -> float:
        """A lower bound on the mean recall over fresh noise, under every attack of that budget."""
        if not math.isfinite(budget) or budget < 0:
            raise BudgetError(f"'budget' expects a finite number >= 0 (got {budget})")
        if self.expected_lower <= 0:
            return 0.0
        # Nothing reaches nowhere, even where there is no noise against anything.
        shift = budget * self.distance if budget > 0 else 0.0
        shifted = torch.special.ndtri(torch.tensor(self.expected_lower, dtype=torch.double)) - shift
        return float(torch.special.ndtr(shifted))

    def majority_recall(self, budget: float) -> float:
        """A lower bound on the recall of the list of all items that more than half of the noisy lists hold."""
        return certified_recall(self.pairs[0], self.lower > 0.5, self.largest, budget)

    def describe(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""
        return {
            "sigma": self.sigma,
            "budget": self.budget,
            "confidence": self.confidence,
            "expected_recall": self.expected,
            "expected_recall_lower": self.expected_lower,
            "certified_recall": self.recall(self.budget),
            "certified_majority_recall": self.majority_recall(self.budget),
            "abstained": self.abstained,
        }


def smoothed_recall(
    model: Recommender,
    data: HeteroData,
    threat: ThreatModel,
    *,
    sigma: float,
    samples: int = 200,
    k: int = 20,
    split: Literal["val", "test"] = "test",
    mask_validation: bool = False,
    confidence: float = 0.999,
    seed: int = 0,
    progress: bool = False,
) -> SmoothedCertificate:
    r"""Certifies the randomised version of any model, as in `"Certified Adversarial Robustness via Randomized
    Smoothing" <https://arxiv.org/abs/1902.02918>`_ (Cohen et al., ICML 2019).

    **What is certified** is not the model itself but the one that adds :math:`N(0, \sigma_m^2)` to every entry that the
    attacker may change, before it ranks. For any function :math:`h` into :math:`[0, 1]` and any change whose whole size
    is :math:`z` standard deviations, :math:`z^2 = \sum_m \Vert \Delta^m \Vert_F^2 / \sigma_m^2`,

    .. math::
        E\, h(X + \Delta + \epsilon) \ge \Phi\big(\Phi^{-1}(E\, h(X + \epsilon)) - z\big)

    (Salman et al., NeurIPS 2019, `Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers
    <https://arxiv.org/abs/1906.04584>`_). With :math:`h` the recall of all users this bounds the mean recall over the
    noise; with :math:`h` the membership of one item in one list, the items that most noisy lists hold. The scope is
    always the whole matrix in L2: other norms and budgets per item count by the largest Frobenius norm that they allow,
    which grows with the number of items that the attacker may change. The bound is of use for few items, small
    budgets, or much noise.

    The mean is bounded from below by betting (Waudby-Smith and Ramdas, JRSS-B 2024, `Estimating means of bounded random
    variables by betting <https://arxiv.org/abs/2010.09686>`_), memberships by Clopper and Pearson at a level that is
    divided by the number of pairs.

    Args:
        model: The model, of any kind; graphs of similar items are rebuilt from the noisy features or frozen, as the
            threat model says.
        data: The clean data.
        threat: What the attacker may do.
        sigma: Standard deviation of the noise, in units of the root mean square of each modality's entries.
        samples: Number of noisy forward passes.
        k: Length of the lists.
        split: The split whose interactions are to be found.
        mask_validation: See :class:`~mmgraph_robust.evaluation.Evaluator`.
        confidence: Probability with which the bounds are to hold.
        seed: Seed of the noise.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: If the model does not read a modality, or an argument does not fit.
    """
    for name, holds, expected, value in (
        ("sigma", math.isfinite(sigma) and sigma > 0, "a finite number > 0", sigma),
        ("samples", samples >= 2, "a number >= 2", samples),
        ("confidence", 0 < confidence < 1, "a number between 0 and 1", confidence),
    ):
        if not holds:
            raise ConfigError(f"'{name}' expects {expected} (got {value})")
    features_of(data, threat.modalities)
    if model.feature_path != "none":
        for modality in threat.modalities:
            model.check_modality(modality)
    evaluator = Evaluator(data, split, [k], ["recall"], mask_validation)
    pairs = evaluator.pairs
    features = model.features(data)
    graph = graph_under(model, data, threat)
    attacked = [m for m in threat.modalities if m in features]
    deviation = {m: sigma * float(features[m].double().square().mean().sqrt()) for m in attacked}
    allowed = threat.allowed(model.num_items, model.device)
    # Not the stream of Smoothed, whose certificate would rest on the very draws that it is made of.
    generator = child_generator(seed, "certificate", "smoothing")
    recalls, counts = [], torch.zeros(pairs.size(1), dtype=torch.long)
    with frozen(model, seed):
        for _ in tqdm(range(samples), desc="smoothing", disable=not progress, leave=False):
            noisy = dict(features)
            for m in attacked:
                noise = torch.randn(features[m].shape, generator=generator).to(model.device)
                noisy[m] = features[m] + deviation[m] * noise * allowed
            with torch.no_grad():
                lists = evaluator.lists(model(noisy, graph))
            found = evaluator.found(lists)
            counts += found
            recalls.append(certified_recall(pairs[0], found, found.double(), 0.0))
    level = 1 - confidence
    distance = _distance(threat, features, deviation, allowed)
    lower = binomial_lower(counts, samples, level / (2 * pairs.size(1)))
    upper = 1 - binomial_lower(samples - counts, samples, level / (2 * pairs.size(1)))
    radius = torch.special.ndtri(lower.clamp(min=0.5)) / distance if distance > 0 else torch.full_like(lower, math.inf)
    return SmoothedCertificate(
        sigma=sigma,
        budget=threat.budget,
        distance=distance,
        expected=sum(recalls) / samples,
        expected_lower=mean_lower(torch.tensor(recalls, dtype=torch.double), level),
        pairs=pairs,
        lower=lower,
        largest=torch.where(lower > 0.5, radius, 0.0),
        abstained=float(((lower <= 0.5) & (upper >= 0.5)).double().mean()),
        confidence=confidence,
    )


def _distance(threat: ThreatModel, features: Features, deviation: dict[str, float], allowed: Tensor) -> float:
    """The largest change at budget 1, in standard deviations."""
    total = 0.0
    for name, sd in deviation.items():
        x = features[name]
        radius = replace(restrict(threat, [name]), budget=1.0).radii(features)[name].double()
        if threat.scope == "item" or threat.norm == "linf":
            # Every row may go to its own bound; an entry bound allows a row the square root of its width.
            width = x.size(1) if threat.norm == "linf" else 1
            square = float((radius.expand(x.size(0), 1).square() * allowed.double()).sum()) * width
        else:
            square = float(radius.square().sum())
        if square > 0:
            # Without noise nothing is smoothed, and no change is covered.
            total += square / sd**2 if sd > 0 else math.inf
    return math.sqrt(total)


def binomial_lower(counts: Tensor, trials: int, level: float) -> Tensor:
    """Clopper and Pearson's lower bounds on probabilities: below them, so many successes have less than `level`.

    Args:
        counts: ``[n]`` successes.
        trials: Number of trials.
        level: Probability that a bound may fail.

    Shapes:
        - **output:** ``[n]`` float64
    """
    different, place = torch.unique(counts, return_inverse=True)
    n = torch.tensor(float(trials), dtype=torch.double)
    j = torch.arange(trials + 1, dtype=torch.double)
    choose = torch.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(n - j + 1)
    bounds = []
    for a, b in chunks(different.numel(), max(1, (1 << 22) // (trials + 1))):
        some = different[a:b, None].double()
        low, high = torch.zeros_like(some), (some / n).clamp(max=1.0)
        for _ in range(60):
            p = (low + high) / 2
            terms = choose + j * p.log() + (n - j) * torch.log1p(-p)
            tail = torch.logsumexp(terms.masked_fill(j < some, -math.inf), 1, keepdim=True)
            below = tail < math.log(level)
            low, high = torch.where(below, p, low), torch.where(below, high, p)
        bounds.append(low.flatten())
    return torch.cat(bounds)[place]


def mean_lower(x: Tensor, level: float) -> float:
    """A lower confidence bound on the mean of independent draws in [0, 1] of one distribution, by betting.

    Whoever bets a share of his capital on every draw's exceeding `m` does not multiply it by ``1 / level`` with more
    probability than `level` if `m` is the mean; the bound is the least `m` at which the bets on `x` do not.

    Args:
        x: ``[n]`` draws.
        level: Probability that the bound may fail.
    """
    n = torch.arange(1, x.numel() + 1, dtype=torch.double)
    mean = (0.5 + x.cumsum(0)) / (n + 1)
    variance = (0.25 + (x - mean).square().cumsum(0)) / (n + 1)
    # A bet may rest on earlier draws only.
    earlier = torch.cat([torch.tensor([0.25], dtype=torch.double), variance[:-1]])
    stake = torch.sqrt(2 * math.log(1 / level) / (x.numel() * earlier))
    low, high = 0.0, float(x.mean())
    for _ in range(60):
        m = (low + high) / 2
        if m <= 0:
            break
        capital = torch.log1p(stake.clamp(max=0.75 / m) * (x - m)).cumsum(0).max()
        low, high = (m, high) if float(capital) >= math.log(1 / level) else (low, m)
    return low
