"""Runs the contestants of a case: checks them against the judge, times them in turns, measures their memory."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.case import Case, Contestant, Run, Settings, relative_error
from benchmarks.speed.clock import once
from benchmarks.speed.memory import Peak, peak_memory

Record = dict[str, Any]
Advance = Callable[[str], None]


@dataclass
class Entry:
    """A contestant on its way through a case."""

    contestant: Contestant
    run: Run | None = None
    status: str = "ok"
    reason: str = ""
    error: float | None = None
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    peak: Peak | None = None

    def stop(self, status: str, reason: str) -> None:
        """Takes it out of the race."""
        self.status, self.reason, self.run = status, reason, None

    def add(self, forward: float, backward: float | None) -> None:
        """Notes the seconds of one pass."""
        self.forward.append(forward)
        if backward is not None:
            self.backward.append(backward)

    def record(self, traffic: dict[str, dict[str, int]], bandwidth: float) -> Record:
        """What is written down."""
        who = self.contestant
        seconds = {"forward": _spread(self.forward), "backward": _spread(self.backward)}
        share = {
            way: {kind: count / bandwidth / spread["median"] for kind, count in counts.items()}
            for way, counts in traffic.items()
            if (spread := seconds[way]) is not None
        }
        known = self.peak is not None and self.peak.added is not None
        return {
            "contestant": who.name,
            "role": who.role,
            "engine": None if who.engine is None else {"operation": who.engine[0], "name": who.engine[1]},
            "status": self.status,
            "reason": self.reason,
            "error": self.error,
            **seconds,
            "memory": {"added": self.peak.added, "total": self.peak.total} if self.peak and known else None,
            "share_of_bandwidth": share,
        }


def measure(case: Case, settings: Settings, bandwidth: float, advance: Advance = lambda name: None) -> Record:
    """All contestants of a case.

    Args:
        case: The case.
        settings: The circumstances.
        bandwidth: Copy bandwidth of the device, in bytes per second.
        advance: Called with a contestant's name before each of its runs, for a progress bar.
    """
    entries = [Entry(contestant) for contestant in case.contestants]
    racing = [entry for entry in entries if entry.contestant.repeats(settings) > 0]
    traffic = _race(case, racing, settings, advance) if racing else {}
    for entry in entries:
        alone = entry.contestant.repeats(settings) == 0
        if entry.status == "ok" and (alone or settings.memory):
            advance(entry.contestant.name)
            entry.peak = peak_memory(case, entry.contestant.name, settings)
            if entry.peak.forward is None:
                entry.reason = entry.peak.reason
            elif alone:
                entry.add(entry.peak.forward, entry.peak.backward)
            if alone and not entry.forward:
                entry.status = "failed"
    return {
        "operation": case.operation,
        "case": case.name,
        "traffic": traffic,
        "results": [entry.record(traffic, bandwidth) for entry in entries],
    }


def steps(case: Case, settings: Settings) -> int:
    """How often :func:`measure` calls `advance`, where all goes well."""
    repeats = [contestant.repeats(settings) for contestant in case.contestants]
    return sum(1 + count + settings.memory if count else 1 for count in repeats)


def _race(case: Case, entries: list[Entry], settings: Settings, advance: Advance) -> dict[str, dict[str, int]]:
    """Checks and times; on return nothing of the inputs is left. Gives the bytes that the passes move."""
    shared = case.build()
    upstream = _check(case, entries, shared, settings, advance)
    gc.disable()
    try:
        for turn in range(settings.repeats):
            # In turns, so that whatever else the machine does hits all alike; each turn begins with another.
            first = turn % len(entries)
            for entry in [*entries[first:], *entries[:first]]:
                if entry.run is not None and turn < entry.contestant.repeats(settings):
                    advance(entry.contestant.name)
                    entry.add(*once(entry.run, upstream, settings.device))
    finally:
        gc.enable()
    for entry in entries:
        entry.run = None
    return {} if case.traffic is None else {way: vars(moved) for way, moved in case.traffic(shared).items()}


def _check(case: Case, entries: list[Entry], shared: Any, settings: Settings, advance: Advance) -> Tensor | None:
    """Prepares and runs everyone once, which warms up too; gives the gradient that all backward passes start from."""
    judge: tuple[str, list[Tensor]] | None = None
    upstream: Tensor | None = None
    for entry in entries:
        advance(entry.contestant.name)
        try:
            entry.run = entry.contestant.prepare(shared)
            upstream, found = _results(entry.run, upstream)
        except Exception as problem:  # whoever cannot do it is reported, and the others go on
            entry.stop("failed", f"{type(problem).__name__}: {problem}".splitlines()[0])
            continue
        if entry.contestant.role == "bound":
            continue
        judge = judge or (entry.contestant.name, found)
        error = _distance(case, found, judge[1])
        entry.error = error if math.isfinite(error) else None
        if error > case.tolerance:
            entry.stop("wrong", f"differs from {judge[0]} by {error:.2g} ({case.tolerance:.2g} is allowed)")
    return upstream


def _results(run: Run, upstream: Tensor | None) -> tuple[Tensor | None, list[Tensor]]:
    """The first of all backward passes draws the gradient that they start from."""
    result = run.forward()
    if not run.leaves:
        return upstream, [result]
    if upstream is None:
        upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(0)).to(result)
    return upstream, [result.detach(), *torch.autograd.grad(result, run.leaves, upstream)]


def _distance(case: Case, found: list[Tensor], expected: list[Tensor]) -> float:
    distances = [(case.error or relative_error)(found[0], expected[0])]
    distances += [relative_error(*pair) for pair in zip(found[1:], expected[1:], strict=True)]
    return math.inf if any(math.isnan(distance) for distance in distances) else max(distances)


def _spread(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"median": statistics.median(seconds), "min": min(seconds), "repeats": len(seconds)}
