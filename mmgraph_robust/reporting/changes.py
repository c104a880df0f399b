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

Measured = Mapping["Setting | None", Entry]

# Says when, and nothing about how.
_IGNORED = ("created",)
_ABSENT = object()


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

    Args:
        entries: The entries of A and of B.
        measured: What was measured in each, by setting.
    """
    sources = []
    for entry, parts in zip(entries, measured, strict=True):
        # Arguments that vary within an entry are part of the attack's name, so that a name has one value of each.
        attacks = {s.attack: arguments_of(part) for s, part in parts.items() if s and all(s in m for m in measured)}
        sources.append((entry["config"], entry["provenance"], {"attacks": attacks}))
    for pair in zip(*sources, strict=True):
        before, after = (dict(_leaves(source)) for source in pair)
        for key in dict.fromkeys([*before, *after]):
            if key not in _IGNORED and before.get(key, _ABSENT) != after.get(key, _ABSENT):
                yield key, before.get(key, MISSING), after.get(key, MISSING)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def shown(value: Any) -> str:
    """A value in few characters.

    Args:
        value: The value.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Twelve digits of a hash are enough to tell two apart.
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", text)
