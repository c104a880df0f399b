"""How long cells will take, from what earlier ones took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from mmgraph_robust.experiment.cell import Cell, Unit

Entry = dict[str, Any]


class Estimate:
    """Seconds per cell by what cells of the same kind took.

    The median of the same model on the same data set counts; where there is none, that of the same model elsewhere, by
    the number of interactions, then that of other models on the same data set; each under the same attack or defense.

    Args:
        entries: Result entries, of whatever machine.
        sizes: Number of training interactions of each data set.
    """

    def __init__(self, entries: Iterable[Entry], sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._seconds: dict[tuple[str | None, str | None, str], list[float]] = {}
        for entry in entries:
            if entry["training"]["history"] and entry["training"].get("seconds") is not None:
                self._add(entry, f"training {entry['defense']}", entry["training"]["seconds"])
            for attack in entry["attacks"]:
                if attack.get("seconds") is not None:
                    self._add(entry, attack["attack"], attack["seconds"])

    def __call__(self, unit: Unit, cell: Cell) -> float | None:
        """Seconds for one cell; None where nothing like it was done.

        Args:
            unit: The unit of the cell.
            cell: The cell.
        """
        dataset, model, kind = unit.dataset, unit.model.label, cell.kind
        if found := self._seconds.get((dataset, model, kind)):
            return median(found)
        if found := self._seconds.get((None, model, kind)):
            return median(found) * self._sizes[dataset]
        found = self._seconds.get((dataset, None, kind))
        return median(found) if found else None

    def _add(self, entry: Entry, kind: str, seconds: float) -> None:
        dataset, model = entry["dataset"], entry["model"]
        self._seconds.setdefault((dataset, model, kind), []).append(seconds)
        # What cannot be attacked takes no time, and says nothing of the others.
        if entry["feature_path"] != "none":
            self._seconds.setdefault((dataset, None, kind), []).append(seconds)
        if (entry.get("size") or {}).get("train_interactions"):
            self._seconds.setdefault((None, model, kind), []).append(seconds / entry["size"]["train_interactions"])


class Countdown:
    """What is left of some work, from how long what is done of it took.

    Args:
        expected: Expected seconds of each cell that is not done, by name; None where unknown.
    """

    def __init__(self, expected: dict[str, float | None]) -> None:
        known = [seconds for seconds in expected.values() if seconds is not None]
        # All alike where nothing is known.
        unknown = fmean(known) if known else 1.0
        self._left = {key: unknown if seconds is None else seconds for key, seconds in expected.items()}
        self._whole = sum(self._left.values())
        self._began = time.monotonic()

    def done(self, name: str) -> None:
        """One cell less."""
        self._left.pop(name, None)

    @property
    def count(self) -> int:
        """How many cells are left."""
        return len(self._left)

    def text(self) -> str:
        """What is left, in words; empty while nothing is done."""
        left = sum(self._left.values())
        if left >= self._whole or not self._left:
            return ""
        return f"about {duration((time.monotonic() - self._began) * left / (self._whole - left))} left"


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``7 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def total(seconds: Sequence[float | None]) -> str:
    """A sum in words, and how many are not known."""
    unknown = sum(s is None for s in seconds)
    text = duration(sum(s for s in seconds if s is not None))
    if unknown == len(seconds):
        return "unknown"
    return f"{text} and {unknown} cells unknown" if unknown else text
