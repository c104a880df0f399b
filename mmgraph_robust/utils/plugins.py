"""Classes by name: those of a room, and those that installed packages add to it by an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

from mmgraph_robust.errors import ConfigError, unknown_name

T = TypeVar("T")


def room_classes(room: ModuleType, *bases: type[T]) -> dict[str, type[T]]:
    """The classes of a room that can be named, without their bases, by name.

    Args:
        room: A module with ``__all__``.
        bases: What they derive from; those with ``configurable = False`` are left out.
    """
    members = {name: getattr(room, name) for name in room.__all__}
    kinds = {n: c for n, c in members.items() if isinstance(c, type) and issubclass(c, bases) and c not in bases}
    return {n: c for n, c in kinds.items() if getattr(c, "configurable", True)}


def find_class(name: object, room: ModuleType, *bases: type[T]) -> type[T]:
    """A class of a room, or one that an installed package registers under the room's name.

    A package adds a model by ``MyModel = "my_package:MyModel"`` in the table
    ``[project.entry-points."mmgraph_robust.models"]`` of its ``pyproject.toml``; attacks, defenses and readers of data
    join in the same way.

    Args:
        name: Its name.
        room: A module with ``__all__``.
        bases: What the class has to derive from.

    Raises:
        ConfigError: If there is none of that name, or what is registered cannot be imported or is something else.
    """
    known, added = room_classes(room, *bases), plugins(room.__name__)
    if isinstance(name, str) and name in known:
        return known[name]
    if not isinstance(name, str) or name not in added:
        raise ConfigError(unknown_name("name", name, [*known, *added]))
    found = load_plugin(added[name])
    if not (isinstance(found, type) and issubclass(found, bases)):
        expected = " or ".join(base.__name__ for base in bases)
        raise ConfigError(f"entry point '{name}' expects a subclass of {expected} (got {found!r})")
    if found.__name__ != name:
        # It is looked up by its own name where it was saved.
        raise ConfigError(f"entry point '{name}' expects the name of its class, '{found.__name__}'")
    return found


def plugins(group: str) -> dict[str, EntryPoint]:
    """What installed packages register under `group`, by name, not yet imported."""
    return {point.name: point for point in entry_points(group=group)}


def load_plugin(point: EntryPoint) -> Any:
    """Imports what an entry point names.

    Raises:
        ConfigError: If that fails.
    """
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"entry point '{point.name}' ({point.value}) cannot be imported: {error}") from error
