"""Where a parameter is searched: small declarative ranges that stand beside the parameter itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

from mmgraph_robust.errors import ConfigError

Choice: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Float:
    """Real numbers from `low` to `high`, both included.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether sizes matter rather than differences; needs ``low > 0``.

    Raises:
        ConfigError: If the ends are no numbers, or the range is empty, not finite, or logarithmic and not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        ends: tuple[object, object] = (self.low, self.high)
        for value in ends:
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ConfigError(f"'Float' expects numbers (got {value!r})")
        _check_range(self, self.low, self.high, self.log)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Choice, ...]:
        """The values that show whether a parameter takes the whole range."""
        return float(self.low), float(self.high)


@dataclass(frozen=True)
class Int:
    """Whole numbers from `low` to `high`, both included.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether sizes matter rather than differences; needs ``low > 0``.

    Raises:
        ConfigError: If the range is empty, or logarithmic and not positive.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        ends: tuple[object, object] = (self.low, self.high)
        for value in ends:
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"'Int' expects whole numbers (got {value!r})")
        _check_range(self, self.low, self.high, self.log)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Choice, ...]:
        """The values that show whether a parameter takes the whole range."""
        return self.low, self.high


@dataclass(frozen=True)
class Categorical:
    """One of a few values without an order.

    Args:
        choices: The values, each different.

    Raises:
        ConfigError: If they are no list, there are none, two are equal, or one is a list or a table.
    """

    choices: Sequence[Choice]

    def __post_init__(self) -> None:
        # A word would be a list of its letters.
        if isinstance(self.choices, str) or not isinstance(self.choices, Iterable):
            raise ConfigError(f"'Categorical' expects a list of choices (got {self.choices!r})")
        object.__setattr__(self, "choices", tuple(self.choices))
        for choice in self.choices:
            if not isinstance(choice, str | int | float | bool | None):
                raise ConfigError(f"'Categorical' expects text, numbers, truth values or None (got {choice!r})")
        # 1, 1.0 and True are equal and yet different choices.
        if not self.choices or len({(type(c), c) for c in self.choices}) < len(self.choices):
            raise ConfigError(f"'Categorical' expects different choices, at least one (got {list(self.choices)})")

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    @property
    def ends(self) -> tuple[Choice, ...]:
        """The values that show whether a parameter takes the whole range."""
        return tuple(self.choices)


Domain: TypeAlias = Float | Int | Categorical
"""Where one parameter is searched."""


def _check_range(domain: Float | Int, low: float, high: float, log: bool) -> None:
    name = type(domain).__name__
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        fixed = "; a parameter of one value is set, not searched" if low == high else ""
        raise ConfigError(f"'{name}' expects finite low < high (got {low} and {high}){fixed}")
    if log and low <= 0:
        raise ConfigError(f"'{name}' expects low > 0 where log is set (got {low})")
