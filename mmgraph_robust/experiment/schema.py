"""Strict schemas made from signatures: an argument is described once, where it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from mmgraph_robust.errors import ConfigError, unknown_name

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A section of a configuration: unknown keys and wrong types are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@cache
def schema_of(target: Callable[..., Any], skip: tuple[str, ...] = ()) -> type[BaseModel]:
    """A strict schema of the arguments that a class or function takes.

    Args:
        target: The class or function.
        skip: Arguments that a configuration does not give.
    """
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", *skip) or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # A class of one's own may say nothing of its types: then anything goes.
        fields[name] = (_from_file(hints.get(name, Any)), default)
    return create_model(getattr(target, "__name__", "Arguments"), __config__=Strict.model_config, **fields)


def _from_file(hint: Any) -> Any:
    """Files know lists, and no tuples."""
    if get_origin(hint) is not tuple:
        return hint
    return Annotated[hint, BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]


def check_arguments(
    target: Callable[..., Any], values: Mapping[str, Any], where: str, skip: Collection[str] = ()
) -> dict[str, Any]:
    """The arguments of `target`, checked and with its defaults.

    Args:
        target: The class or function.
        values: The arguments that were given.
        where: Where they stand, for errors.
        skip: Arguments that a configuration does not give.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of the wrong type.
    """
    return dict(parse(schema_of(target, tuple(skip)), values, where))


def parse(schema: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Reads `values` into a schema.

    Raises:
        ConfigError: Names the place, and for an unknown key the closest known one.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'configuration'}: expects a table of keys (got {values!r})")
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(schema, detail, where) for detail in error.errors())) from None


def _explain(schema: type[BaseModel], detail: Any, where: str) -> str:
    path = [str(part) for part in detail["loc"]]
    place = ".".join([where, *path]) if where else ".".join(path)
    if detail["type"] == "extra_forbidden":
        outer = ".".join([where, *path[:-1]]) if where else ".".join(path[:-1])
        known = _fields_at(schema, path[:-1])
        return f"{outer or 'configuration'}: {unknown_name('key', path[-1], known)}"
    if detail["type"] == "missing":
        return f"{place} is missing"
    return f"{place}: {detail['msg'].lower()} (got {detail['input']!r})"


def _fields_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = schema.model_fields.get(part)
        if field is None:
            continue
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if inspect.isclass(a)]
        schema = next((a for a in inner if issubclass(a, BaseModel)), schema)
    return list(schema.model_fields)
