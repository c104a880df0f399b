"""The ensemble that every report uses."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from mmgraph_robust.attacks.apgd import APGD
from mmgraph_robust.attacks.base import Attack
from mmgraph_robust.attacks.checks import Outcome, compare
from mmgraph_robust.attacks.item_graph import GraphRelaxation, rebuilt_modalities, searches
from mmgraph_robust.attacks.neighbour_swap import NeighbourSwap
from mmgraph_robust.attacks.noise import Noise
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.probes import probe_problem
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.single_step import SingleStep
from mmgraph_robust.attacks.spsa import SPSA
from mmgraph_robust.attacks.square import Square
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.transfer import Transfer
from mmgraph_robust.attacks.victim import fingerprint, reseed
from mmgraph_robust.errors import CheckpointError, ConfigError, unknown_name
from mmgraph_robust.models import Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import atomic_write, child_generator, hash_json, hash_tensors
from mmgraph_robust.version import ATTACK_VERSION

Part = tuple[str, Attack]


def standard(problem: Problem, surrogates: Sequence[Recommender]) -> list[Part]:
    """The parts of the standard suite: gradients by four objectives, one step in both normalisations, two searches
    without gradients, attacks through an item graph that is rebuilt, every surrogate, and the control.

    Args:
        problem: What they are run on.
        surrogates: Models to transfer from.
    """
    other = "matrix" if problem.threat.scope == "item" else "item"
    parts: list[Part] = [
        ("noise", Noise()),
        ("single step", SingleStep("recall")),
        (f"single step by {other}", SingleStep("margin", normalise=other)),  # type: ignore[arg-type]
        ("APGD recall", APGD(80)),
        ("APGD NDCG", APGD(60, objective="ndcg")),
        ("APGD boundary", APGD(40, objective="boundary")),
        ("APGD margin", APGD(15, objective="margin")),
        ("PGD recall", PGD(20)),
        ("square", Square(150)),
        ("SPSA", SPSA(136)),
    ]
    if searches(problem) or rebuilt_modalities(problem):
        parts += [("item graph", GraphRelaxation(25)), ("item graph NDCG", GraphRelaxation(25, objective="ndcg"))]
    if rebuilt_modalities(problem):
        parts.append(("neighbours", NeighbourSwap(10, start=GraphRelaxation(15))))
    return parts + [(f"transfer {i} {type(m).__name__}", Transfer(m, APGD(30))) for i, m in enumerate(surrogates)]


SUITES: dict[str, Callable[[Problem, Sequence[Recommender]], list[Part]]] = {"standard": standard}
"""The suites by name: what makes the list of attacks for a problem."""


class Suite(Attack):
    """An ensemble without parameters, in the spirit of AutoAttack (`"Reliable Evaluation of Adversarial Robustness with
    an Ensemble of Diverse Parameter-free Attacks" <https://arxiv.org/abs/2003.01690>`_, Croce and Hein, ICML 2020); use
    :func:`suite`.

    Its perturbation is that of the part with the worst mean. ``details["parts"]`` tells what each part reached,
    ``details["worst_per_user"]`` the mean over users of the worst that any part did to each, and ``details["users"]``
    and ``details["values"]`` these users and values. Flags say what looks wrong with the model or the parts. A model
    that no feature reaches is reported as immune, with the reason. Which part is the worst is the evaluator's
    knowledge, also where the attacker has no more than answers or nothing: it is what he may reach with luck.

    Args:
        suite: Which suite, a key of ``SUITES``.
    """

    states_immunity: ClassVar[bool] = True

    def __init__(self, suite: str = "standard") -> None:
        if suite not in SUITES:
            raise ConfigError(unknown_name("suite", suite, SUITES))
        self.suite = suite
        self._folder: Path | None = None
        self._surrogates: tuple[Recommender, ...] = ()

    def may_run(self, threat: ThreatModel) -> bool:
        """Under every threat model: parts that need more knowledge are left out."""
        return True

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values."""
        found = {"name": type(self).__name__, "suite": self.suite, "surrogates": len(self._surrogates)}
        return found | ({"weights": [fingerprint(m) for m in self._surrogates]} if self._surrogates else {})

    def without_surrogates(self) -> Suite:
        """The suite without the models that it transfers from."""
        return Suite(self.suite)

    def run(self, problem: Problem, generator: torch.Generator, progress: bool) -> Features:
        """Runs every part, or reads what an earlier call kept of it."""
        parts = [(n, a) for n, a in SUITES[self.suite](problem, self._surrogates) if a.may_run(problem.threat)]
        seed = generator.initial_seed() % 2**31
        store = None if self._folder is None else _Store(self._folder, problem, self._surrogates, seed)
        shared = _share_queries(problem, [a for _, a in parts])
        sign = 1.0 if problem.threat.goal.rises else -1.0
        users, clean = problem.per_user(problem.embeddings(problem.zero()))
        worst, best, best_mean = clean, problem.zero(), sign * float(clean.mean())
        outcomes, told, blind = [], [], []
        bar = tqdm(parts, desc=f"suite {self.suite}", unit="attack", disable=not progress, leave=False)
        for name, attack in bar:
            bar.set_postfix_str(name)
            # A random forward pass draws the same numbers whether the parts before were run or read.
            reseed(problem.model, seed, f"run {name}")
            sub = shared.with_objective(attack.objective_for(problem.threat))
            delta, report = _run_part(name, attack, sub, seed, store, progress)
            reseed(problem.model, seed, f"judge {name}")
            values = problem.per_user(problem.forward(problem.features | sub.final(delta)))[1]
            worst = torch.maximum(worst, values) if sign > 0 else torch.minimum(worst, values)
            mean = float(values.mean())
            if sign * mean > best_mean:
                best, best_mean = delta, sign * mean
            outcomes.append(_outcome(name, attack, problem, float(clean.mean()), sign * (mean - float(clean.mean()))))
            told.append({"name": name, "attack": attack.describe(), problem.threat.goal.measure_name: mean, **report})
            if report["blind"] is not None and attack.kind != "transfer":
                blind.append(set(report["blind"]))
        problem.blind = set.intersection(*blind) if blind else None
        for part, flags in zip(told, compare(outcomes), strict=True):
            part["flags"] |= flags
        # What is wrong with a part that another one surpasses says nothing about the suite.
        white = [i for i, outcome in enumerate(outcomes) if outcome.kind == "iterated"]
        if white:
            problem.notes |= told[max(white, key=lambda i: outcomes[i].gain)]["flags"]
        if problem.threat.knowledge == "white":
            problem.notes |= probe_problem(problem)
        measure = {problem.threat.goal.measure_name: float(worst.mean())}
        problem.details |= {"parts": told, "worst_per_user": measure, "users": users, "values": worst}
        return best


def suite(name: str = "standard", *, folder: str | Path | None = None, surrogates: Sequence[Recommender] = ()) -> Suite:
    """An ensemble of attacks to be called as any other, ``suite("standard")(model, data, threat)``.

    Args:
        name: Which suite.
        folder: Where the parts' results are kept, by the content that they were made from; a suite that was killed
            goes on from there, to the same numbers.
        surrogates: Models of the same data to transfer attacks from.

    Raises:
        ConfigError: If there is no such suite.
    """
    result = Suite(name)
    result._folder = None if folder is None else Path(folder)
    result._surrogates = tuple(surrogates)
    return result


def _share_queries(problem: Problem, attacks: Sequence[Attack]) -> Problem:
    if problem.threat.queries is None:
        return problem
    asking = sum(attack.kind == "black box" for attack in attacks)
    shared = problem.with_objective("boundary")
    shared.threat = replace(problem.threat, queries=max(1, problem.threat.queries // max(asking, 1)))
    return shared


def _run_part(
    name: str, attack: Attack, sub: Problem, seed: int, store: _Store | None, progress: bool
) -> tuple[Features, dict[str, Any]]:
    kept = None if store is None else store.read(name, attack)
    if kept is not None:
        return {m: x.to(sub.graph.device) for m, x in kept[0].items()}, kept[1]
    started = time.perf_counter()
    delta = sub.project(attack.run(sub, child_generator(seed, "suite", name), progress))
    report = {
        "flags": dict(sub.notes),
        "blind": None if sub.blind is None else sorted(sub.blind),
        "queries": sub.queries,
        "seconds": time.perf_counter() - started,
    }
    if store is not None:
        store.write(name, attack, delta, report)
    return delta, report


def _outcome(name: str, attack: Attack, problem: Problem, clean: float, gain: float) -> Outcome:
    return Outcome(name, attack.kind, "", problem.threat.budget, clean, gain, type(attack).__name__)


class _Store:
    """Results of parts in a folder, named by a hash of everything that they were made from."""

    def __init__(self, folder: Path, problem: Problem, surrogates: Sequence[Recommender], seed: int) -> None:
        self.folder = folder
        graphs = {f"graph_{m}_{k}": x for m, g in problem.graph.item_graphs.items()
                  for k, x in (("row", g.row), ("col", g.col), ("value", g.values()))}  # fmt: skip
        seen = {"seen_row": problem.graph.interactions.row, "seen_col": problem.graph.interactions.col}
        tensors: dict[str, Tensor] = {f"x_{m}": x for m, x in problem.features.items()} | graphs | seen
        tensors |= {f"w_{n}": x for n, x in problem.model.state_dict().items()} | {"pairs": problem.objective.pairs}
        model = type(problem.model)
        made_from = [
            ATTACK_VERSION,
            model.__module__,
            model.__qualname__,
            problem.model.config,
            problem.threat.describe(),
            seed,
        ]
        others = [hash_tensors(**m.state_dict()) for m in surrogates]
        self.key = hash_json([hash_tensors(**tensors), *made_from, *others])

    def _path(self, name: str, attack: Attack) -> Path:
        return self.folder / f"{hash_json([self.key, name, attack.describe()])[:24]}.safetensors"

    def write(self, name: str, attack: Attack, delta: Features, report: dict[str, Any]) -> None:
        """Keeps the perturbation and the report of one part."""
        tensors = {m: x.detach().cpu().contiguous() for m, x in delta.items()}
        text = json.dumps(report)
        payload = save(tensors, {"report": text, "sha256": _checksum(tensors, text)})
        with atomic_write(self._path(name, attack)) as file:
            file.write(payload)

    def read(self, name: str, attack: Attack) -> tuple[Features, dict[str, Any]] | None:
        """What was kept of one part; None if nothing was.

        Raises:
            CheckpointError: If the file is damaged.
        """
        path = self._path(name, attack)
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                delta = {m: file.get_tensor(m) for m in file.keys()}  # noqa: SIM118 (no dict)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): delete it and run again") from error
        text = metadata.get("report", "")
        if metadata.get("sha256") != _checksum(delta, text):
            raise CheckpointError(f"{path} is damaged (its checksum differs): delete it and run again")
        report: dict[str, Any] = json.loads(text)
        return delta, report


def _checksum(tensors: Features, text: str) -> str:
    return hashlib.sha256((hash_tensors(**tensors) + text).encode()).hexdigest()
