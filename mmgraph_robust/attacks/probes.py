"""Checks of a model: what would make attacks on it misleading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import norms
from mmgraph_robust.attacks.item_graph import GraphRelaxation, rebuilt_modalities
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.victim import frozen, same
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator

_ZERO_SHARE = 0.1
_IMBALANCE = 1e5
_HUGE = 10.0


def zero_gradient(problem: Problem) -> str | None:
    """The share of items without a gradient; under the mean margin every item of an honest model has one."""
    _, gradient = problem.with_objective("margin").value_and_gradient(problem.zero())
    owned = problem.allowed.flatten() > 0
    shares = {}
    for m, g in gradient.items():
        # An item without the feature has no direction, in models that bring features to length one.
        there = g[owned & problem.features[m].bool().any(1)]
        shares[m] = float((~there.bool().any(1)).double().mean()) if there.numel() else 0.0
    bad = {m: share for m, share in shares.items() if share > _ZERO_SHARE}
    if not bad:
        return None
    listed = ", ".join(f"{m} {100 * share:.0f} %" for m, share in bad.items())
    return f"share of items without any gradient: {listed}; rounding, saturation or a discrete step hides it"


def gradient_imbalance(problem: Problem) -> str | None:
    """Gradients of modalities, each times its budget, of wholly different size; a joint step would see but one."""
    _, gradient = problem.with_objective("margin").value_and_gradient(problem.zero())
    reach = {m: float((g * problem.allowed).double().norm() * problem.radii[m].norm()) for m, g in gradient.items()}
    most, least = max(reach, key=reach.__getitem__), min(reach, key=reach.__getitem__)
    if reach[least] == 0 or reach[most] < _IMBALANCE * reach[least]:
        return None
    ratio = reach[most] / reach[least]
    return (
        f"the gradient of {least} is {ratio:.0e} times smaller than that of {most}: a joint step without a scale of "
        "its own per modality ignores it"
    )


def gradient_mismatch(problem: Problem) -> str | None:
    """Finite differences against the gradient, modality by modality, over four distances; one has to agree."""
    if problem.stochastic:
        return None
    problem = problem.with_objective("margin")
    value, gradient = problem.value_and_gradient(problem.zero())
    generator = child_generator(0, "attack", "differences")
    wrong = []
    for name, g in gradient.items():
        along = g if bool((g * problem.allowed).any()) else problem.normal(name, generator)
        step = problem.steepest({name: along})[name]
        told = float((g.double() * step.double()).sum())
        pairs = [(h * told, _difference(problem, name, h * step)) for h in (0.01, 0.1, 1.0, 10.0)]
        seen = [(p, m) for p, m in pairs if max(abs(p), abs(m)) > 1e-5 * max(abs(value), 1e-12)]
        if seen and all(abs(p - m) > 0.5 * max(abs(p), abs(m)) for p, m in seen):
            p, m = min(seen, key=lambda pair: abs(pair[0] - pair[1]))
            wrong.append(f"{name} (promised {p:.1e}, found {m:.1e})")
    return f"finite differences contradict the gradient of {', '.join(wrong)}: it is no guide" if wrong else None


def _difference(problem: Problem, name: str, step: Tensor) -> float:
    up, down = (problem.value(problem.zero() | {name: sign * step}) for sign in (1.0, -1.0))
    return (up - down) / 2


def stale_cache(problem: Problem) -> str | None:
    """Other features that give the very same scores, although a fresh copy of the model does react to them."""
    stuck = [m for m in _unmoved(problem) if not same(_fresh(problem, m), problem.embeddings(problem.zero()))]
    if not stuck:
        return None
    return (
        f"other features of {', '.join(stuck)} give the same scores, but not in a fresh copy of the model: it scores "
        "from a stale cache, and no attack can show anything"
    )


def ignored_modality(problem: Problem) -> str | None:
    """A modality that the model says it reads and that has no effect on any score."""
    idle = [m for m in _unmoved(problem) if same(_fresh(problem, m), problem.embeddings(problem.zero()))]
    if not idle:
        return None
    return (
        f"features of {', '.join(idle)} have no effect on any score: the model ignores them, and that nothing changes "
        "is no robustness"
    )


def _unmoved(problem: Problem) -> list[str]:
    hidden = problem.model.feature_path == "graph" and problem.threat.graph == "frozen"
    if problem.stochastic or hidden:
        return []
    clean = problem.embeddings(problem.zero()).concatenated()
    result = []
    for name in problem.threat.modalities:
        moved = problem.forward(problem.features | {name: _other(problem.features[name])}).concatenated()
        if all(torch.equal(a, b) for a, b in zip(clean, moved, strict=True)):
            result.append(name)
    return result


def _other(x: Tensor) -> Tensor:
    noise = torch.randn(x.shape, generator=child_generator(0, "attack", "other")).to(x.device)
    return x.flip(0) + x.std().clamp(min=1e-3) * noise


def _rebuilt(model: Recommender) -> Recommender:
    # A model in a model may keep things, too.
    inner = {name: _rebuilt(value) for name, value in model.config.items() if isinstance(value, Recommender)}
    return type(model)(**model.config | inner)


def _fresh(problem: Problem, name: str) -> Embeddings:
    model = _rebuilt(problem.model).to(problem.model.device)
    model.load_state_dict(problem.model.state_dict())
    model.eval()
    with torch.no_grad():
        result: Embeddings = model(problem.features | {name: _other(problem.features[name])}, problem.graph)
        return result


def zero_budget(problem: Problem) -> str | None:
    """A budget of nothing that still changes features."""
    none = problem.within(0.0)
    kept = none.final(problem.random(child_generator(0, "attack", "zero")))
    changed = [m for m, x in kept.items() if not torch.equal(x, problem.features[m])]
    return f"a budget of zero changes features of {', '.join(changed)}" if changed else None


def weak_at_huge_budget(problem: Problem) -> str | None:
    """At ten times the features' own size an attack does less than turning the features' signs or rows around."""
    if problem.bounds:
        return None
    huge = problem.within(1.0)
    whole = problem.threat.scope == "matrix"
    huge.radii = {m: _HUGE * x.float() for m, x in norms.sizes(_attacked(problem), problem.threat.norm, whole).items()}
    sub = huge.with_objective("boundary")
    search = GraphRelaxation(5) if rebuilt_modalities(problem) else PGD(5)
    found = sub.final(search.run(sub, child_generator(0, "attack", "huge"), False))
    keep = problem.allowed
    crude = {
        "negated": {m: x * (1 - 2 * keep) for m, x in _attacked(problem).items()},
        "replaced by other items'": {m: torch.where(keep > 0, x.flip(0), x) for m, x in _attacked(problem).items()},
    }
    clean = problem.measure(problem.embeddings(problem.zero()))
    sign = 1 if problem.threat.goal.rises else -1
    reached = sign * problem.measure(problem.forward(problem.features | found))
    best = {k: sign * problem.measure(problem.forward(problem.features | x)) for k, x in crude.items()}
    name = max(best, key=best.__getitem__)
    if best[name] <= reached + 0.05 * max(abs(clean), abs(reached), abs(best[name])):
        return None
    measure = problem.threat.goal.measure_name
    return (
        f"at {_HUGE:.0f} times the features' size the attack leaves {measure} at {abs(reached):.4f}, features merely "
        f"{name} at {abs(best[name]):.4f}: it is blind"
    )


def _attacked(problem: Problem) -> Features:
    return {m: problem.features[m] for m in problem.threat.modalities}


PROBES: dict[str, Callable[[Problem], str | None]] = {
    check.__name__: check
    for check in (
        zero_budget,
        zero_gradient,
        gradient_imbalance,
        gradient_mismatch,
        stale_cache,
        ignored_modality,
        weak_at_huge_budget,
    )
}
"""The checks of a model under a threat model, by the name of the flag that they raise."""


def probe(model: Recommender, data: HeteroData, threat: ThreatModel, seed: int = 0) -> dict[str, str]:
    """What a model does that would make attacks on it misleading, as flags.

    Args:
        model: The victim.
        data: The clean data.
        threat: The threat model; whatever it says the attacker knows, the checks look at gradients.
        seed: Seed of what the model draws.
    """
    with frozen(model, seed):
        problem = Problem.from_data(model, data, replace(threat, knowledge="white", queries=None), "margin", seed)
        problem.settle()
        return probe_problem(problem)


def probe_problem(problem: Problem) -> dict[str, str]:
    """:func:`probe` on a settled problem, within a frozen model."""
    texts = {name: check(problem) for name, check in PROBES.items() if name not in _skipped(problem)}
    return {name: text for name, text in texts.items() if text is not None}


def _skipped(problem: Problem) -> tuple[str, ...]:
    # That an item graph alone has no gradient is known beforehand, and said as 'graph_path_only'.
    gradients = ("zero_gradient", "gradient_imbalance", "gradient_mismatch")
    return gradients if problem.model.feature_path == "graph" else ()
