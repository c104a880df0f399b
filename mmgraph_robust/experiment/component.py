"""Models, defenses and attacks as a configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmgraph_robust import attacks, defenses, models
from mmgraph_robust.attacks import Attack
from mmgraph_robust.defenses import Defense, WrappedModel
from mmgraph_robust.errors import ConfigError, MMGraphError, unknown_name
from mmgraph_robust.experiment.plans import AttackPlan
from mmgraph_robust.experiment.schema import check_arguments, parse, schema_of
from mmgraph_robust.models import Recommender
from mmgraph_robust.training import check_settings, fit
from mmgraph_robust.utils import find_class

GIVEN_TO_FIT = (
    "model", "data", "defense", "seed", "checkpoint", "checkpoint_every", "progress", "graph", "on_epoch",
)  # fmt: skip
GIVEN_TO_MODEL = ("num_users", "num_items", "feature_dims", "seed")
GIVEN_TO_WRAPPER = ("model", "data", "seed")


@dataclass(frozen=True)
class Component:
    """A class by name, with checked arguments.

    Attributes:
        kind: The class; None for no defense.
        name: Its name, or ``"none"`` for no defense.
        label: What it is called in results (default: the name).
        arguments: Its arguments, defaults included.
        training: Arguments of :func:`~mmgraph_robust.training.fit` that it overrides.
        only: Of a defense: labels of the models that it is combined with (None: all that read features).
        wrapper: Of a defense that plugs into training: the one that goes around the model besides, if any.
    """

    kind: Any
    name: str
    label: str
    arguments: dict[str, Any]
    training: dict[str, Any]
    only: tuple[str, ...] | None = None
    wrapper: Component | None = None

    @property
    def wraps(self) -> bool:
        """Whether this defense is a model around the model, and not a part of its training."""
        return self.kind is not None and issubclass(self.kind, WrappedModel)

    @property
    def around(self) -> Component | None:
        """What goes around the model: this defense itself, or its wrapper, if any."""
        return self if self.wraps else self.wrapper

    def fits(self, model: Component) -> bool:
        """Whether this defense is combined with `model`."""
        if self.name == "none":
            return True
        return model.kind.feature_path != "none" and (self.only is None or model.label in self.only)

    def describe(self) -> dict[str, Any]:
        """The entry of a configuration, as plain values with all defaults."""
        described: dict[str, Any] = {"name": self.name, "label": self.label, **self.arguments}
        if self.training:
            described["training"] = self.training
        if self.only is not None:
            described["only"] = list(self.only)
        if self.wrapper is not None:
            described["wrapper"] = {"name": self.wrapper.name, **self.wrapper.arguments}
        return described


def find_component(kind: Literal["models", "attacks", "defenses"], name: object) -> Any:
    """A class that a configuration can name, of this library or of an installed package that registers it.

    Raises:
        ConfigError: If there is none of that name.
    """
    rooms = {"models": models, "attacks": attacks, "defenses": defenses}
    bases: dict[str, tuple[type[Any], ...]] = {
        "models": (Recommender,),
        "attacks": (Attack,),
        "defenses": (Defense, WrappedModel),
    }
    try:
        return find_class(name, rooms[kind], *bases[kind])
    except ConfigError as error:
        raise type(error)(f"{kind}: {error}{' or none, for no defense' if kind == 'defenses' else ''}") from None


def read_component(
    kind: Literal["models", "defenses"], values: Mapping[str, Any], shared: Mapping[str, Any]
) -> Component:
    """A model or a defense of a configuration.

    Args:
        kind: Which of them.
        values: Its entry.
        shared: The training of the whole run, checked.

    Raises:
        ConfigError: If a key is unknown or a value does not fit.
    """
    name, label, training, arguments = _take(kind, values)
    only = _names(arguments.pop("only", None), f"defenses.{label}.only") if kind == "defenses" else None
    read = _names(arguments.pop("modalities", None), f"models.{label}.modalities") if kind == "models" else None
    around = arguments.pop("wrapper", None) if kind == "defenses" else None
    if kind == "defenses" and name == "none":
        if arguments or only is not None or around is not None:
            what = sorted(arguments) or ("wrapper" if only is None else "only")
            raise ConfigError(f"defenses.none takes no arguments (got {what})")
        return Component(None, name, label, {}, _own_training(training, shared, f"defenses.{label}"))
    found = find_component(kind, name)
    wraps = kind == "defenses" and issubclass(found, WrappedModel)
    if wraps and around is not None:
        raise ConfigError(f"defenses.{label}: '{name}' goes around the model itself, and takes no 'wrapper'")
    wrapper = None if around is None else _read_wrapper(around, f"defenses.{label}.wrapper")
    if wrapper is not None and "label" not in values:
        label = f"{name}+{wrapper.name}"
    given = GIVEN_TO_MODEL if kind == "models" else GIVEN_TO_WRAPPER if wraps else ()
    checked = check_arguments(found, arguments, f"{kind}.{name}", given)
    if read is not None:
        # What `from_data` takes: a model that is not shown the others.
        checked["modalities"] = list(read)
    if kind == "defenses" and not wraps:
        try:
            found(**checked)
        except MMGraphError as error:
            raise type(error)(f"{kind}.{label}: {error}") from None
    return Component(found, name, label, checked, _own_training(training, shared, f"{kind}.{name}"), only, wrapper)


def read_attack(values: Mapping[str, Any]) -> tuple[Component, AttackPlan]:
    """An attack of a configuration, and what it is run under.

    Args:
        values: Its entry.

    Raises:
        ConfigError: If a key is unknown or a value does not fit.
    """
    name, label, _, arguments = _take("attacks", values)
    found = find_component("attacks", name)
    keys, takes = set(AttackPlan.model_fields), set(schema_of(found).model_fields)
    unknown = [unknown_name("key", k, takes | keys) for k in arguments if k not in takes | keys]
    if unknown:
        raise ConfigError(f"attacks.{name}: {'; '.join(unknown)}")
    checked = check_arguments(found, {k: v for k, v in arguments.items() if k in takes}, f"attacks.{name}")
    threat = {k: v for k, v in arguments.items() if k in keys}
    if "queries" in checked:
        # The threat model allows what the attack stops at, where it counts queries at all.
        counted = threat.get("knowledge") in ("scores", "ranks")
        threat["queries"] = checked["queries"] if counted else None
    plan = parse(AttackPlan, threat, f"attacks.{name}")
    try:
        attack = found(**checked)
        for allowed in plan.check():
            if not attack.may_run(allowed):
                raise ConfigError(f"knowledge='{allowed.knowledge}' gives the attack less than it needs")
    except MMGraphError as error:
        raise type(error)(f"attacks.{name}: {error}") from None
    return Component(found, name, label, checked, {}), plan


def check_training(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments of :func:`~mmgraph_robust.training.fit` with all defaults.

    Args:
        values: Those that are given.
        where: Where, for errors.

    Raises:
        ConfigError: If a key is unknown or a value does not fit.
    """
    checked = check_arguments(fit, values, where, GIVEN_TO_FIT)
    try:
        check_settings(**checked)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return checked


def check_label(label: str, where: str) -> str:
    """Returns `label`, which becomes a part of file names.

    Raises:
        ConfigError: If it cannot.
    """
    if not label.translate(str.maketrans("", "", "_-.+")).isalnum():
        raise ConfigError(f"{where} expects letters, digits, '.', '_', '-', '+' (got '{label}')")
    return label


def _read_wrapper(values: Any, where: str) -> Component:
    """A defense that goes around the model, beside one that plugs into its training."""
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise ConfigError(f"{where}: expects the name and the arguments of a defense (got {values!r})")
    name = values["name"]
    found = find_component("defenses", name)
    if not issubclass(found, WrappedModel):
        raise ConfigError(f"{where}: '{name}' plugs into training and goes around no model")
    arguments = {key: value for key, value in values.items() if key != "name"}
    return Component(found, name, name, check_arguments(found, arguments, where, GIVEN_TO_WRAPPER), {})


def _own_training(own: dict[str, Any], shared: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not own:
        return {}
    merged = check_training({**shared, **own}, f"{where}.training")
    return {key: merged[key] for key in own}


def _take(kind: str, values: Mapping[str, Any]) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    arguments = dict(values)
    name = arguments.pop("name", None)
    label = arguments.pop("label", name)
    training = arguments.pop("training", {}) if kind != "attacks" else {}
    if not isinstance(name, str) or not isinstance(label, str) or not isinstance(training, dict):
        raise ConfigError(
            f"{kind}: every entry needs a 'name', and 'label' and 'training' must fit (got {dict(values)})"
        )
    return name, check_label(label, f"{kind}.{name}: 'label'"), training, arguments


def _names(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{where}: expects a list of names (got {value!r})")
    return tuple(value)
