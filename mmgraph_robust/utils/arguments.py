"""What models, attacks and defenses have in common: they refuse arguments that make no sense, and are told by them."""

from __future__ import annotations

import operator

from mmgraph_robust.errors import ConfigError


def is_whole(value: object) -> bool:
    """Whether `value` is a whole number: an ``int``, or one of NumPy's or torch's, which ``int()`` takes."""
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


class Checked:
    """Base of classes whose constructor looks at its arguments."""

    def _check(self, **conditions: tuple[bool, str, object]) -> None:
        """Raises ConfigError for the first argument whose condition does not hold: what was expected, and the value."""
        for name, (holds, expected, value) in conditions.items():
            if not holds:
                raise ConfigError(f"'{type(self).__name__}' expects {name} {expected} (got {value!r})")

    def _check_counts(self, least: int = 1, /, **counts: int) -> None:
        """Raises ConfigError for a count that is no whole number or below `least`."""
        for name, count in counts.items():
            self._check(**{name: (is_whole(count), "to be a whole number", count)})
            self._check(**{name: (count >= least, f">= {least}", count)})

    def _check_rates(self, **rates: float) -> None:
        """Raises ConfigError for a rate that is not positive and finite."""
        self._check(**{name: (0 < rate < float("inf"), "> 0 and finite", rate) for name, rate in rates.items()})

    def _check_sizes(self, **sizes: float) -> None:
        """Raises ConfigError for a size that is negative or not finite."""
        self._check(**{name: (0 <= size < float("inf"), ">= 0 and finite", size) for name, size in sizes.items()})


class Described(Checked):
    """Base of classes whose public attributes are the arguments of their constructor."""

    def describe(self) -> dict[str, object]:
        """Name and arguments as plain JSON values."""
        return {"name": type(self).__name__} | self._arguments()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._arguments().items())})"

    def _arguments(self) -> dict[str, object]:
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}
