"""Public conformance checks for attacks, one's own included."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Attack, AttackResult, ThreatModel
from mmgraph_robust.attacks.checks import Snapshot, budget_overrun
from mmgraph_robust.attacks.norms import NORMS, Norm
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.errors import BudgetError, MMGraphError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.testing.models import ConformanceError
from mmgraph_robust.testing.weak_models import weak_model


def check_attack(
    attack: Attack,
    model: Recommender | None = None,
    data: HeteroData | None = None,
    *,
    norms: Sequence[Norm] = NORMS,
    budget: float = 0.1,
) -> None:
    """Checks that an attack keeps the contract that makes its outcome worth reading.

    Args:
        attack: The attack.
        model: The victim (default: a small model that is weak by construction).
        data: The data set (default: that of the weak model).
        norms: The norms that the attack works in.
        budget: The budget, relative to the features.

    Raises:
        ConformanceError: If it overruns a budget, box or set of items, changes anything under a budget of zero, touches
            the model or the data (also when it is interrupted by an error), gives other results for the same seed, asks
            more often than it may, or describes itself in more than plain values.
    """
    if (model is None) != (data is None):
        raise ConformanceError("'check_attack' expects a model and its data together, or neither")
    if model is None or data is None:
        model, data = weak_model("FragileDirection")
    # A state that an attack can only leave as it was if it looks.
    model = copy.deepcopy(model).train()
    next(model.parameters()).requires_grad_(False)
    try:
        json.dumps(attack.describe(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"'describe' returns more than plain JSON values: {error}") from error
    names = list(model.modalities)
    for norm in norms:
        for scope in ("item", "matrix"):
            _check_run(attack, model, data, ThreatModel(names, budget, scope, norm))
    threat = ThreatModel(names, budget, norm=norms[0])
    half = range(int(data["item"].num_nodes) // 2)
    _check_run(attack, model, data, replace(threat, items=half, modalities=names[:1]))
    _check_run(attack, model, data, replace(threat, box="clean", budget=10 * budget))
    _check_nothing(attack, model, data, threat)
    _check_seeds(attack, model, data, threat)
    _check_error(attack, model, data, threat)
    for knowledge in ("scores", "ranks"):
        limited = replace(threat, knowledge=knowledge, queries=20)
        if attack.may_run(limited):
            _check_run(attack, model, data, limited)


def _check_run(attack: Attack, model: Recommender, data: HeteroData, threat: ThreatModel) -> AttackResult:
    before = Snapshot(model, data)
    try:
        result = attack(model, data, threat)
    except BudgetError as error:
        raise ConformanceError(f"under {threat.describe()}: {error}") from error
    problem = budget_overrun(result, data, threat) or before.side_effects(model, data)
    if problem is not None:
        raise ConformanceError(f"under {threat.describe()}: {problem}")
    return result


def _check_nothing(attack: Attack, model: Recommender, data: HeteroData, threat: ThreatModel) -> None:
    result = _check_run(attack, model, data, replace(threat, budget=0.0))
    clean, stored = features_of(data), features_of(result.data)
    changed = [m for m, x in stored.items() if not torch.equal(x, clean[m])]
    if changed or result.before != result.after:
        raise ConformanceError(f"a budget of zero changes features of {changed} and {result.before} to {result.after}")


def _check_seeds(attack: Attack, model: Recommender, data: HeteroData, threat: ThreatModel) -> None:
    first, second = (features_of(attack(model, data, threat, seed=1).data) for _ in range(2))
    different = [m for m, x in first.items() if not torch.equal(x, second[m])]
    if different:
        raise ConformanceError(f"the same seed gives different features of {different}: draw from the generator")


def _check_error(attack: Attack, model: Recommender, data: HeteroData, threat: ThreatModel) -> None:
    calls = [0]

    def fail(module: torch.nn.Module, args: Any, output: Embeddings) -> None:
        calls[0] += 1
        # Two are made before the search; where the search asks the model nothing, the third is that of the judgement.
        if calls[0] == 3:
            raise _InterruptionError

    before = Snapshot(model, data)
    handle = model.register_forward_hook(fail)
    try:
        attack(model, data, threat)
    except _InterruptionError:
        pass
    finally:
        handle.remove()
    problem = before.side_effects(model, data)
    if problem is not None:
        raise ConformanceError(f"after an error inside the forward pass: {problem}")


class _InterruptionError(MMGraphError):
    pass
