"""Tests over users that outlive the values per user that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.reporting.pairing import Comparison, Tested
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.statistics import PairedTest
from mmgraph_robust.utils import read_json, write_json

KeptTests: TypeAlias = Mapping[Tested, PairedTest]
"""Tests by what they are of, the means that they compare included: a test of other numbers is never taken for one."""


def write_tests(path: Path, compared: Iterable[Comparison]) -> None:
    """Writes what was tested, for those who have the means only.

    Args:
        path: The file.
        compared: The comparisons.
    """
    write_json(path, [_record(one, one.test) for one in compared if one.test is not None])


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
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not hold tests over users ({error!r}): delete it") from error


def _record(one: Comparison, test: PairedTest) -> dict[str, Any]:
    setting = None if one.setting is None else asdict(one.setting)
    return {
        "metric": one.metric, "dataset": one.dataset, "model": one.model, "defense": one.defense, "setting": setting,
        "seeds": one.seeds, "before": one.before, "after": one.after, "test": asdict(test),
    }  # fmt: skip


def _parsed(record: dict[str, Any]) -> tuple[Tested, PairedTest]:
    setting = record["setting"]
    if setting is not None:
        setting = Setting(**setting | {"modalities": tuple(setting["modalities"])})
    key = (
        record["metric"], record["dataset"], record["model"], record["defense"], setting, tuple(record["seeds"]),
        float(record["before"]), float(record["after"]),
    )  # fmt: skip
    return key, PairedTest(**record["test"])
