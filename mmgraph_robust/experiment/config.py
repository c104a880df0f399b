"""What a run consists of, read from TOML or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch_geometric.data import HeteroData

from mmgraph_robust import attacks, defenses, models
from mmgraph_robust.attacks import Attack, ThreatModel
from mmgraph_robust.data import modalities, read_mmrec, synthetic
from mmgraph_robust.defenses import Defense, WrappedModel
from mmgraph_robust.errors import ConfigError, MMGraphError, unknown_name
from mmgraph_robust.evaluation import Evaluator
from mmgraph_robust.experiment.plans import AttackPlan
from mmgraph_robust.experiment.schema import Strict, check_arguments, parse
from mmgraph_robust.metrics import METRICS
from mmgraph_robust.models import Recommender
from mmgraph_robust.training import check_settings, fit
from mmgraph_robust.utils import find_class, load_plugin, plugins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMATS: dict[str, Callable[..., HeteroData]] = {"mmrec": read_mmrec, "synthetic": synthetic}
GIVEN_TO_FIT = (
    "model", "data", "defense", "seed", "checkpoint", "checkpoint_every", "progress", "graph", "on_epoch",
)  # fmt: skip
GIVEN_TO_MODEL = ("num_users", "num_items", "feature_dims", "seed")
GIVEN_TO_WRAPPER = ("model", "data", "seed")


class EvaluationConfig(Strict):
    """How quality is measured."""

    k: list[int] = [10, 20]
    mask_validation: bool = False
    metric: str = "recall@20"


class PublishedConfig(Strict):
    """Published metrics to be shown beside the measured ones, per label of a model."""

    source: str
    tolerance: float = Field(default=0.05, gt=0)
    values: dict[str, dict[str, float]]


class _RunFile(Strict):
    name: str
    seeds: list[int] = Field(default=[0], min_length=1)
    data: dict[str, Any]
    training: dict[str, Any] = {}
    models: list[dict[str, Any]] = Field(min_length=1)
    defenses: list[dict[str, Any]] = [{"name": "none"}]
    attacks: list[dict[str, Any]] | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    published: PublishedConfig | None = None


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
    """

    kind: Any
    name: str
    label: str
    arguments: dict[str, Any]
    training: dict[str, Any]
    only: tuple[str, ...] | None = None

    @property
    def wraps(self) -> bool:
        """Whether this defense is a model around the model, and not a part of its training."""
        return self.kind is not None and issubclass(self.kind, WrappedModel)

    def fits(self, model: Component) -> bool:
        """Whether this defense is combined with `model`."""
        if self.name == "none":
            return True
        return model.kind.feature_path != "none" and (self.only is None or model.label in self.only)


class RunConfig:
    """A whole run: data, models, defenses and attacks, every key checked.

    Args:
        values: The content of a configuration file.

    Raises:
        ConfigError: If a key is unknown (names the closest known one) or a value does not fit.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        file = parse(_RunFile, values, "")
        self.name = _check_label(file.name, "name")
        self.seeds = file.seeds
        self.evaluation = file.evaluation
        _check_metric(self.evaluation)
        self.data = self._data(file.data)
        self.training = _check_training(file.training, "training")
        self.models = [self._component("models", entry) for entry in file.models]
        self.defenses = [self._component("defenses", entry) for entry in file.defenses]
        for defense in self.defenses:
            for name in defense.only or ():
                if name not in (labels := [m.label for m in self.models]):
                    raise ConfigError(f"defenses.{defense.label}.only: {unknown_name('model', name, labels)}")
        for kind, entries in (("models", self.models), ("defenses", self.defenses)):
            labels = [c.label for c in entries]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ConfigError(f"{kind}: {twice} occur twice; give each a 'label' of its own")
        # A reproduction of published numbers is no robustness report.
        default = [] if file.published else [{"name": "Suite"}]
        self.attacks = [self._attack(entry) for entry in (default if file.attacks is None else file.attacks)]
        self.published = file.published
        _check_published(self.published, [m.label for m in self.models], self.evaluation)
        _check_keys(self.models, self.defenses, self.seeds)
        auto = [d.label for d in self.defenses if d.arguments.get("sensitive") == "auto"]
        if auto and "none" not in [d.name for d in self.defenses]:
            raise ConfigError(
                f"defenses.{auto[0]}: sensitive = 'auto' looks at the undefended model: add a defense named 'none'"
            )

    def build_data(self) -> HeteroData:
        """Reads or makes the data set, and sees that everything fits it: before hours of training, not after.

        Raises:
            ConfigError: If a model cannot be built for the data, or a modality is named that they lack.
            DataError: If the data cannot be read, or the test split is empty.
        """
        data = _reader(self.data["format"])(**{k: v for k, v in self.data.items() if k != "format"})
        known = list(modalities(data))
        for defense in self.defenses:
            sensitive = defense.arguments.get("sensitive", "auto")
            named = [] if sensitive in ("auto", "all") else [sensitive] if isinstance(sensitive, str) else sensitive
            for name in defense.arguments.get("modalities") or named:
                if name not in known:
                    raise ConfigError(f"defenses.{defense.label}: {unknown_name('modality', name, known)}")
        for model in self.models:
            try:
                built = model.kind.from_data(data, **model.arguments)
            except MMGraphError as error:
                raise type(error)(f"models.{model.label}: {error}") from None
            for defense in self.defenses:
                if defense.wraps and defense.fits(model):
                    try:
                        defense.kind(built, data, **defense.arguments)
                    except MMGraphError as error:
                        raise type(error)(
                            f"defenses.{defense.label}, around {model.label}: {error}; say which models it goes with: "
                            'only = ["..."]'
                        ) from None
        Evaluator(data, "test", self.evaluation.k)
        self.build_attacks(data)
        return data

    def build_attacks(self, data: HeteroData, seed: int = 0) -> list[tuple[Attack, ThreatModel]]:
        """Every attack under every one of its threat models.

        Args:
            data: The data set.
            seed: Seed of drawn target items.
        """
        return [
            (component.kind(**component.arguments), threat)
            for component, plan in self.attacks
            for threat in plan.threats(data, seed)
        ]

    def describe(self) -> dict[str, Any]:
        """The whole configuration with all defaults, as plain JSON values; reads back to the same run."""
        described: dict[str, Any] = {
            "name": self.name,
            "seeds": self.seeds,
            "data": self.data,
            "training": self.training,
            "models": [_describe(c) for c in self.models],
            "defenses": [_describe(c) for c in self.defenses],
            "attacks": [_describe(c) | plan.model_dump() for c, plan in self.attacks],
            "evaluation": self.evaluation.model_dump(),
        }
        if self.published is not None:
            described["published"] = self.published.model_dump()
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    def _data(self, values: Mapping[str, Any]) -> dict[str, Any]:
        kind = values.get("format")
        arguments = {k: v for k, v in values.items() if k != "format"}
        return {"format": kind} | check_arguments(_reader(kind), arguments, "data")

    def _component(self, kind: Literal["models", "defenses"], values: Mapping[str, Any]) -> Component:
        name, label, training, arguments = _take(kind, values)
        only = _names(arguments.pop("only", None), f"defenses.{label}.only") if kind == "defenses" else None
        read = _names(arguments.pop("modalities", None), f"models.{label}.modalities") if kind == "models" else None
        if kind == "defenses" and name == "none":
            if arguments or only is not None:
                raise ConfigError(f"defenses.none takes no arguments (got {sorted(arguments) or 'only'})")
            return Component(None, name, label, {}, self._training(training, f"defenses.{label}"))
        found = find_component(kind, name)
        wraps = kind == "defenses" and issubclass(found, WrappedModel)
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
        return Component(found, name, label, checked, self._training(training, f"{kind}.{name}"), only)

    def _training(self, own: dict[str, Any], where: str) -> dict[str, Any]:
        if not own:
            return {}
        merged = _check_training(self.training | own, f"{where}.training")
        return {key: merged[key] for key in own}

    def _attack(self, values: Mapping[str, Any]) -> tuple[Component, AttackPlan]:
        name, label, _, arguments = _take("attacks", values)
        found = find_component("attacks", name)
        keys = set(AttackPlan.model_fields)
        own = {k: v for k, v in arguments.items() if k not in keys}
        try:
            checked = check_arguments(found, own, f"attacks.{name}")
        except ConfigError as error:
            raise ConfigError(f"{error} (of the threat: {', '.join(sorted(keys))})") from None
        plan = parse(AttackPlan, {k: v for k, v in arguments.items() if k in keys}, f"attacks.{name}")
        try:
            attack = found(**checked)
            for threat in plan.check():
                if not attack.may_run(threat):
                    raise ConfigError(f"knowledge='{threat.knowledge}' gives the attack less than it needs")
        except MMGraphError as error:
            raise type(error)(f"attacks.{name}: {error}") from None
        return Component(found, name, label, checked, {}), plan


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


def _reader(name: object) -> Callable[..., HeteroData]:
    added = plugins("mmgraph_robust.data")
    if isinstance(name, str) and name in added and name not in FORMATS:
        reader: Callable[..., HeteroData] = load_plugin(added[name])
        return reader
    if name not in FORMATS:
        raise ConfigError(f"data.format: {unknown_name('format', name, [*FORMATS, *added])}")
    return FORMATS[str(name)]


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a configuration file.

    Args:
        path: A ``.toml`` or ``.json`` file.
        overrides: ``key=value`` pairs such as ``training.max_epochs=3`` or ``models.GRCN.embedding_dim=32``.

    Raises:
        ConfigError: If the file cannot be read, or anything in it or in `overrides` does not fit.
    """
    values = apply_overrides(read_values(path), overrides)
    try:
        return RunConfig(values)
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


def read_values(path: str | Path) -> dict[str, Any]:
    """The content of a ``.toml`` or ``.json`` file, unchecked.

    Raises:
        ConfigError: If the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid {path.suffix[1:] or 'TOML'}: {error}") from error
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
        for part in path:
            if isinstance(place, list):
                place = _named(place, part, override)
            elif isinstance(place, dict):
                place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: '{'.'.join(path)}' is not a section")
        place[last] = value
    return values


def _named(entries: list[Any], name: str, override: str) -> Any:
    for entry in entries:
        if isinstance(entry, dict) and name in (entry.get("label"), entry.get("name")):
            return entry
    known = [str(e.get("label") or e.get("name")) for e in entries if isinstance(e, dict)]
    raise ConfigError(f"--set {override}: {unknown_name('entry', name, known)}")


def _take(kind: str, values: Mapping[str, Any]) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    arguments = dict(values)
    name = arguments.pop("name", None)
    label = arguments.pop("label", name)
    training = arguments.pop("training", {}) if kind != "attacks" else {}
    if not isinstance(name, str) or not isinstance(label, str) or not isinstance(training, dict):
        raise ConfigError(
            f"{kind}: every entry needs a 'name', and 'label' and 'training' must fit (got {dict(values)})"
        )
    return name, _check_label(label, f"{kind}.{name}: 'label'"), training, arguments


def _check_label(label: str, where: str) -> str:
    """What becomes a part of file names."""
    if not label.translate(str.maketrans("", "", "_-.+")).isalnum():
        raise ConfigError(f"{where} expects letters, digits, '.', '_', '-', '+' (got '{label}')")
    return label


def _describe(component: Component) -> dict[str, Any]:
    described: dict[str, Any] = {"name": component.name, "label": component.label, **component.arguments}
    if component.training:
        described["training"] = component.training
    if component.only is not None:
        described["only"] = list(component.only)
    return described


def _names(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{where}: expects a list of names (got {value!r})")
    return tuple(value)


def _check_training(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    checked = check_arguments(fit, values, where, GIVEN_TO_FIT)
    try:
        check_settings(**checked)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return checked


def _check_keys(models: Sequence[Component], defenses: Sequence[Component], seeds: Sequence[int]) -> None:
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds: expects different whole numbers >= 0 (got {list(seeds)})")
    keys = [f"{m.label}-{d.label}" for m in models for d in defenses]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"models and defenses: two of them would share the file names {twice}; choose other labels")


def _check_published(published: PublishedConfig | None, labels: Sequence[str], evaluation: EvaluationConfig) -> None:
    known = [f"{name}@{k}" for name in METRICS for k in evaluation.k]
    for label, values in published.values.items() if published is not None else ():
        if label not in labels:
            raise ConfigError(f"published.values: {unknown_name('model', label, labels)}")
        for metric, value in values.items():
            if metric not in known or not 0 < value <= 1:
                raise ConfigError(
                    f"published.values.{label}: {unknown_name('metric', metric, known)}"
                    if metric not in known
                    else f"published.values.{label}.{metric}: expects a number above 0, at most 1 (got {value})"
                )


def _check_metric(evaluation: EvaluationConfig) -> None:
    if not evaluation.k or min(evaluation.k) < 1:
        raise ConfigError(f"evaluation.k: expects whole numbers >= 1 (got {evaluation.k})")
    known = [f"{name}@{k}" for name in METRICS for k in evaluation.k]
    if evaluation.metric not in known:
        raise ConfigError(f"evaluation.metric: {unknown_name('metric', evaluation.metric, known)}")
