"""The search space of a study: the domains that stand beside the parameters, with what a file changes about them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args, get_origin

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.schema import schema_of
from mmgraph_robust.utils import Categorical, Domain, Float, Int

_KEYS = ("low", "high", "log", "choices")


@dataclass(frozen=True)
class Parameter:
    """One searched argument, or one entry of an argument that is a table.

    Attributes:
        section: Where it belongs: ``("training",)``, ``("models", label)`` or ``("defenses", label)``.
        argument: Its name there.
        domain: Where it is searched.
        default: What it is without a study.
        key: Which entry of the table.
    """

    section: tuple[str, ...]
    argument: str
    domain: Domain
    default: Any
    key: str | None = None

    @property
    def name(self) -> str:
        """Its name in the study."""
        return ".".join([*self.section, self.argument, *([] if self.key is None else [self.key])])

    def put(self, arguments: dict[str, Any], value: Any) -> None:
        """Gives the argument a value.

        Args:
            arguments: The arguments of where it belongs; changed.
            value: The value.
        """
        table = arguments.get(self.argument) or {}
        arguments[self.argument] = value if self.key is None else table | {self.key: value}

    @property
    def distribution(self) -> BaseDistribution:
        """Its domain in Optuna's terms."""
        domain = self.domain
        if isinstance(domain, Float):
            return FloatDistribution(domain.low, domain.high, log=domain.log)
        if isinstance(domain, Int):
            return IntDistribution(domain.low, domain.high, log=domain.log)
        return CategoricalDistribution(domain.choices)

    def suggest(self, trial: BaseTrial) -> Any:
        """Its value in a trial."""
        domain = self.domain
        if isinstance(domain, Float):
            return trial.suggest_float(self.name, domain.low, domain.high, log=domain.log)
        if isinstance(domain, Int):
            return trial.suggest_int(self.name, domain.low, domain.high, log=domain.log)
        return trial.suggest_categorical(self.name, domain.choices)

    def describe(self) -> dict[str, Any]:
        """Its domain as plain JSON values."""
        return {"type": type(self.domain).__name__} | asdict(self.domain)


def parameters_of(
    section: tuple[str, ...],
    target: Callable[..., Any],
    space: Mapping[str, Domain],
    fixed: Mapping[str, Any],
    changes: Mapping[str, Any],
    skip: Collection[str] = (),
) -> Iterator[Parameter]:
    """What is searched of one component: its own search space without what the file fixes, and what the file adds.

    Args:
        section: See :class:`Parameter`.
        target: The class or function whose arguments they are.
        space: The search space that stands beside them.
        fixed: The arguments that the file gives.
        changes: The file's word on the search, by argument: a table (``low``, ``high``, ``log``, or ``choices``) that
            changes or makes a domain, ``true`` to search an argument that is fixed otherwise, ``false`` not to search.
            For an argument that is a table itself, a table of such tables, each for an entry that the file gives.
        skip: Arguments that a configuration does not give.

    Raises:
        ConfigError: If an argument or key is unknown, or a domain does not fit.
    """
    where = ".".join(["search", *section])
    fields = schema_of(target, tuple(skip)).model_fields
    for argument in changes:
        if argument not in fields:
            raise ConfigError(f"{where}: {unknown_name('argument', argument, fields)}")
    for argument, field in fields.items():
        change = changes.get(argument, argument in space and argument not in fixed)
        if change is False:
            continue
        if isinstance(change, Mapping) and change and any(isinstance(entry, Mapping) for entry in change.values()):
            yield from _entries(section, argument, change, fixed.get(argument), field.annotation)
            continue
        domain = _domain(f"{where}.{argument}", space.get(argument), change, field.annotation)
        default = fixed.get(argument, domain.ends[0] if field.is_required() else field.default)
        yield Parameter(section, argument, domain, default)


def _entries(
    section: tuple[str, ...], argument: str, changes: Mapping[str, Mapping[str, Any]], given: Any, annotation: Any
) -> Iterator[Parameter]:
    where = ".".join(["search", *section, argument])
    tables = [a for a in (annotation, *getattr(annotation, "__args__", ())) if get_origin(a) in (Mapping, dict)]
    if not tables:
        raise ConfigError(f"{where} is one value and no table of several (got {dict(changes)})")
    for key, change in changes.items():
        if key not in (given or {}):
            raise ConfigError(f"{where}: give '{key}' in the file, too, as what the search begins with")
        domain = _domain(f"{where}.{key}", None, change, get_args(tables[0])[1])
        yield Parameter(section, argument, domain, given[key], key)


def _domain(where: str, own: Domain | None, change: Any, annotation: Any) -> Domain:
    if change is True:
        if own is None:
            raise ConfigError(f"{where}: nothing is known about where to search it; give a table with low and high")
        return own
    if not isinstance(change, Mapping):
        raise ConfigError(f"{where} expects a table, true or false (got {change!r})")
    for key in change:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {unknown_name('key', key, _KEYS)}")
    try:
        if "choices" in change:
            if len(change) > 1 or not isinstance(change["choices"], list):
                raise ConfigError(f"expects 'choices' to be a list and to stand alone (got {dict(change)})")
            return Categorical(change["choices"])
        return _range(own, change, annotation)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _range(own: Domain | None, change: Mapping[str, Any], annotation: Any) -> Domain:
    kind = type(own) if isinstance(own, Float | Int) else _kind(annotation)
    known = asdict(own) if isinstance(own, Float | Int) else {}
    values = known | dict(change)
    for key in ("low", "high"):
        if key not in values:
            raise ConfigError(f"'{key}' is missing")
        if not isinstance(values[key], int | float) or isinstance(values[key], bool):
            raise ConfigError(f"'{key}' expects a number (got {values[key]!r})")
    if not isinstance(values.get("log", False), bool):
        raise ConfigError(f"'log' expects true or false (got {values['log']!r})")
    if kind is Float:
        values |= {key: float(values[key]) for key in ("low", "high")}
    return kind(**values)


def _kind(annotation: Any) -> type[Float] | type[Int]:
    kinds = {annotation, *getattr(annotation, "__args__", ())} - {type(None)}
    for base, kind in ((int, Int), (float, Float)):
        if base in kinds:
            return kind
    raise ConfigError("is no number: give 'choices'")
