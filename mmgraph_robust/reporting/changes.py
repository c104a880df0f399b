"""What was done differently between two result entries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmgraph_robust.reporting.cells import MISSING
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.settings import Setting, arguments_of
from mmgraph_robust.utils import hash_json

Measured = Mapping["Setting | None", Entry]

# Says when, and nothing about how.
_IGNORED = ("created",)
_ABSENT = object()
# Longer lists of values are told by their length and hash; of changes, no more are listed.
_FEW = 6


@dataclass(frozen=True)
class Change:
    """A key of configuration or provenance that differs.

    Args:
        key: The key, with dots: ``training.learning_rate``, ``commit``, ``attacks.PGD.steps``.
        before: Its value in A, an en dash where it has none.
        after: Its value in B.
        trainings: The trainings in which it differs so.
    """

    key: str
    before: Any
    after: Any
    trainings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key} {shown(self.before)} -> {shown(self.after)}"


def differences(entries: Sequence[Entry], measured: Sequence[Measured]) -> Iterator[tuple[str, Any, Any]]:
    """Keys of configuration, provenance and shared attacks that differ between two entries, with both values.

    Attacks of one name are told once if they differ alike. Their own provenance is told where it differs otherwise than
    that of the trainings.

    Args:
        entries: The entries of A and of B.
        measured: What was measured in each, by setting.
    """
    made = [entry["provenance"] for entry in entries]
    yield from _differences(*(entry["config"] for entry in entries))
    yield from _differences(*made)
    known = {hash_json(change) for change in _differences(*made)}
    for setting in measured[0]:
        if setting is None or setting not in measured[1]:
            continue
        parts = [found[setting] for found in measured]
        own = [part.get("provenance", of_training) for part, of_training in zip(parts, made, strict=True)]
        changes = [*_differences(*map(arguments_of, parts))]
        changes += [change for change in _differences(*own) if hash_json(change) not in known]
        for key, before, after in changes:
            change = f"attacks.{setting.attack}.{key}", before, after
            if (name := hash_json(change)) not in known:
                known.add(name)
                yield change


def _differences(first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    before, after = dict(_leaves(first)), dict(_leaves(second))
    for key in dict.fromkeys([*before, *after]):
        if key not in _IGNORED and before.get(key, _ABSENT) != after.get(key, _ABSENT):
            yield key, before.get(key, MISSING), after.get(key, MISSING)


def later_attacks(entries: Sequence[Entry]) -> str:
    """A line on the attacks that were made by other code, or elsewhere, than the training; empty if there are none.

    Args:
        entries: Result entries.
    """
    later = [(entry, attack) for entry in entries for attack in entry["attacks"] if "provenance" in attack]
    if not later:
        return ""
    found = {
        str(Change(*change, ())): None
        for entry, attack in later
        for change in _differences(entry["provenance"], attack["provenance"])
    }
    listed = "; ".join([*found][:_FEW]) + (f"; and {len(found) - _FEW} more" if len(found) > _FEW else "")
    count = sum(len(entry["attacks"]) for entry in entries)
    return f"{len(later)} of {count} attacks by other code than the training, or elsewhere: {listed}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def shown(value: Any) -> str:
    """A value in few characters, in which other values look different all the same.

    Args:
        value: The value.
    """
    if isinstance(value, list) and len(value) > _FEW:
        return f"{len(value)} values ({hash_json(value)[:6]})"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Twelve digits of a hash are enough to tell two apart.
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", text)
