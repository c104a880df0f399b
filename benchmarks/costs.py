"""What programs measured of costs, for the pages of results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmgraph_robust.utils import read_json


def sections(folder: Path, title: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Headings and what was measured, a file each.

    Args:
        folder: Holds ``cost.json`` and, of other machines, ``cost-NAME.json``.
        title: The heading; a GPU's name is added.
    """
    for path in [folder / "cost.json", *sorted(folder.glob("cost-*.json"))]:
        if path.exists():
            found = read_json(path)
            device = device_of(found)
            yield f"## {title}{'' if device == 'cpu' else f': {device}'}", found


def device_of(found: dict[str, Any]) -> str:
    """Where it was measured: a GPU's name, or ``"cpu"``, as before there was any other."""
    return str(found.get("device", "cpu"))
