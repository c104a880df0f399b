"""Configurations written as TOML, which the standard library only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def to_toml(values: Mapping[str, Any], comments: str = "") -> str:
    """A configuration as TOML: tables and lists of tables at the top, everything below them in one line.

    Args:
        values: Plain JSON values; keys whose value is None are left out, as TOML has no such value.
        comments: Lines to stand above it.
    """
    blocks = ["\n".join(f"# {line}".rstrip() for line in comments.splitlines())] if comments else []
    plain = {k: v for k, v in values.items() if not isinstance(v, Mapping) and not _is_tables(v)}
    blocks.append(_lines(plain))
    for key, value in values.items():
        if isinstance(value, Mapping):
            blocks.append(f"[{_key(key)}]\n{_lines(value)}")
        elif _is_tables(value):
            blocks += [f"[[{_key(key)}]]\n{_lines(entry)}" for entry in value]
    return "\n\n".join(block.rstrip() for block in blocks if block) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{_key(k)} = {_inline(v)}" for k, v in values.items() if v is not None)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(entry) for entry in value) + "]"
    if isinstance(value, str):
        return _string(value)
    # JSON and TOML write numbers and truth values alike.
    return json.dumps(value, allow_nan=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's; TOML forbids one more control character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
