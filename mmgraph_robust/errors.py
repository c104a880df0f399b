"""The errors that this library raises: each says what was expected, what came, and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMGraphError(Exception):
    """Base of every error that this library raises on purpose."""


class DataError(MMGraphError, ValueError):
    """Interactions, features or splits that cannot be used as they are."""


class ConfigError(MMGraphError, ValueError):
    """An argument or a configuration key that is unknown, of the wrong type, or out of range."""


class BudgetError(ConfigError):
    """An attack budget that is negative or not finite, or that a perturbation has overrun."""


class NonFiniteError(MMGraphError, ArithmeticError):
    """A loss, gradient, embedding or score became NaN or infinite."""


class CheckpointError(MMGraphError):
    """A checkpoint or result file that is damaged, foreign, or made with another configuration."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not in `known`, with the closest known one.

    Args:
        kind: What the name stands for, e.g. ``"modality"``.
        name: The name that was given.
        known: The names that would have been accepted.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(f"'{c}'" for c in choices) or "none"
    return f"unknown {kind} '{name}'{hint} (known: {listed})"
