"""The nouns of the suite: a case is one task on one input, and contestants are those who do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from benchmarks import options
from mmgraph_robust.sparse import ENGINES, choose_engine
from mmgraph_robust.sparse.engines import Operation

Role: TypeAlias = Literal["ours", "engine", "reference", "bound"]
"""``ours``: this package as it comes, what the others are divided by; ``engine``: this package, run another way than by
default; ``reference``: somebody else's way; ``bound``: does a part of the work only, and is not checked."""


@dataclass(frozen=True)
class Settings:
    """The circumstances of a run. `smoke` puts tiny made-up inputs in the place of the real ones; `million` names the
    engine that searches a million rows, where one is to."""

    device: str = "cpu"
    threads: int = 1
    repeats: int = 10
    smoke: bool = False
    million: str = ""
    memory: bool = True
    keep_freed_memory: bool = False
    data: Path = options.DATA


@dataclass(frozen=True)
class Run:
    """What is timed: a forward pass, and its gradients with respect to `leaves` where there are any."""

    forward: Callable[[], Tensor]
    leaves: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Contestant:
    """One way to do a case.

    Attributes:
        name: How the tables call it.
        prepare: Turns the case's shared input into a :class:`Run`; neither timed nor counted as memory.
        role: What the tables do with it.
        engine: The engine's operation that the forward pass measures, and the engine's name.
        most_repeats: Fewer repeats than asked for, where one takes long; 0 runs it a single time, in the process that
            measures its memory, compared with nothing.
    """

    name: str
    prepare: Callable[[Any], Run]
    role: Role = "reference"
    engine: tuple[Operation, str] | None = None
    most_repeats: int | None = None

    def repeats(self, settings: Settings) -> int:
        """How many times it is timed."""
        return settings.repeats if self.most_repeats is None else min(settings.repeats, self.most_repeats)


@dataclass(frozen=True)
class Traffic:
    """Bytes that a pass moves: at least (everything once), and if nothing gathered is met in a cache."""

    compulsory: int
    gather: int


@dataclass(frozen=True)
class Case:
    """One task on one input.

    Attributes:
        operation: The table it belongs to.
        name: Its name there.
        build: Makes the input that all contestants share.
        contestants: Who takes part. Whoever comes first (and runs) is the judge of the others' results.
        tolerance: How far, by `error`, results and gradients may be from the judge's.
        error: A distance between two results.
        traffic: Bytes moved by the passes ``"forward"`` and ``"backward"``, where they are known.
    """

    operation: str
    name: str
    build: Callable[[], Any]
    contestants: tuple[Contestant, ...]
    tolerance: float = 1e-4
    error: Callable[[Tensor, Tensor], float] | None = None
    traffic: Callable[[Any], dict[str, Traffic]] | None = None


def relative_error(result: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of what was expected; infinite where shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    expected = expected.detach().double()
    distance = torch.linalg.vector_norm(result.detach().double() - expected)
    return float(distance / torch.linalg.vector_norm(expected).clamp(min=1e-30))


def ours(operation: Operation, settings: Settings, prepare: Callable[[Any, str], Run]) -> tuple[Contestant, ...]:
    """This package by each engine that is available here, the default one first."""
    device = torch.device(settings.device)
    default = choose_engine(operation, device).name
    names = [name for name, engine in ENGINES.items() if operation in engine.operations and not engine.missing(device)]

    def contestant(name: str) -> Contestant:
        return Contestant(
            name=f"ours ({name})",
            prepare=lambda shared: prepare(shared, name),
            role="ours" if name == default else "engine",
            engine=(operation, name),
        )

    return tuple(contestant(name) for name in sorted(names, key=lambda name: name != default))
