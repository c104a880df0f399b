"""Tests over users that outlive the values per user that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.reporting.pairing import Comparison, Tested
from mmgraph_robust.reporting.statistics import PairedTest
from mmgraph_robust.utils import read_json, write_json

KeptTests: TypeAlias = Mapping[Tested, PairedTest]
"""Tests by what they are of. The means that they compare are part of it: a test of other numbers is never taken for
one."""

_KEY = ("metric", "dataset", "model", "defense", "attack", "seeds", "before", "after")


def paired_tests(compared: Iterable[Comparison]) -> dict[Tested, PairedTest]:
    """What was tested.

    Args:
        compared: The comparisons.
    """
    return {one.tested: one.test for one in compared if one.test is not None}


def write_tests(path: Path, tests: KeptTests) -> None:
    """Writes tests for those who have the means only.

    Args:
        path: The file.
        tests: The tests.
    """
    write_json(path, [dict(zip(_KEY, key, strict=True)) | {"test": asdict(test)} for key, test in tests.items()])


def read_tests(path: Path) -> dict[Tested, PairedTest]:
    """What :func:`write_tests` wrote; nothing where there is no file.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        return dict(map(_parsed, read_json(path)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold tests over users ({error!r}): delete it") from error


def _parsed(record: dict[str, Any]) -> tuple[Tested, PairedTest]:
    metric, dataset, model, defense, attack = (str(record[name]) for name in _KEY[:5])
    seeds = tuple(map(int, record["seeds"]))
    key = (metric, dataset, model, defense, attack, seeds, float(record["before"]), float(record["after"]))
    test = record["test"]
    numbers = {field.name: float(test[field.name]) for field in fields(PairedTest) if field.name != "users"}
    return key, PairedTest(**numbers, users=int(test["users"]))
