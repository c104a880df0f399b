"""Configuration files, and what the command line changes about them."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgraph_robust.errors import ConfigError, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_values(path: str | Path) -> dict[str, Any]:
    """The content of a ``.toml`` or ``.json`` file, unchecked.

    Raises:
        ConfigError: If the file cannot be read, or holds no table.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid {path.suffix[1:] or 'TOML'}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expects a table of keys (got a value of type {type(values).__name__})")
    return values


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Sets keys given as ``path.to.key=value``; values are read as TOML, else as strings."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set expects key=value (got '{override}')")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *path, last = key.split(".")
        place: Any = values
        for depth, part in enumerate(path):
            if isinstance(place, list):
                place = _named(place, part, override)
                _set_each(place.get("on"), [*path[depth + 1 :], last], value)
            elif isinstance(place, dict):
                place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: '{'.'.join(path)}' is not a section")
        place[last] = value
        if path == ["training"]:
            _set_own_training(values, {last: value})
        elif key == "training" and isinstance(value, dict):
            _set_own_training(values, value)
    return values


def _set_each(each: Any, path: Sequence[str], value: Any) -> None:
    """Sets a key also in what an entry has for single data sets (``on``), whose tables take the place of its own."""
    for place in each.values() if isinstance(each, dict) else ():
        for part in path[:-1]:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            # One table each: the next override may change it on one data set only.
            place[path[-1]] = copy.deepcopy(value)


def _set_own_training(values: dict[str, Any], training: dict[str, Any]) -> None:
    """Sets keys of the training also in the entries that have them of their own, which would win over it."""
    for kind in ("models", "defenses"):
        entries = values.get(kind)
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            each = entry.get("on")
            for holder in (entry, *(each.values() if isinstance(each, dict) else ())):
                own = holder.get("training") if isinstance(holder, dict) else None
                if isinstance(own, dict):
                    own |= {key: copy.deepcopy(value) for key, value in training.items() if key in own}


def _named(entries: list[Any], name: str, override: str) -> Any:
    labels = [(e.get("label", e.get("name")), e) for e in entries if isinstance(e, dict)]
    found = [e for label, e in labels if label == name] or [e for _, e in labels if e.get("name") == name]
    if len(found) > 1:
        raise ConfigError(f"--set {override}: {len(found)} entries are called '{name}': change them in the file")
    if found:
        return found[0]
    known = [str(label) for label, _ in labels]
    raise ConfigError(f"--set {override}: {unknown_name('entry', name, known)}")
