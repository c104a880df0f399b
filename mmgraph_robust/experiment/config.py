"""What a run consists of, read from TOML or JSON."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Attack, ThreatModel
from mmgraph_robust.data import modalities, read_mmrec, synthetic
from mmgraph_robust.errors import ConfigError, DataError, MMGraphError, unknown_name
from mmgraph_robust.evaluation import Evaluator
from mmgraph_robust.experiment.build import build, finish
from mmgraph_robust.experiment.component import Component, check_label, check_training, read_attack, read_component
from mmgraph_robust.experiment.files import apply_overrides, read_values
from mmgraph_robust.experiment.schema import Strict, check_arguments, parse
from mmgraph_robust.metrics import METRICS
from mmgraph_robust.utils import load_plugin, plugins

FORMATS: dict[str, Callable[..., HeteroData]] = {"mmrec": read_mmrec, "synthetic": synthetic}


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


class RunConfig:
    """A whole run: data, models, defenses and attacks, every key checked.

    Args:
        values: The content of a configuration file.

    Raises:
        ConfigError: If a key is unknown (names the closest known one) or a value does not fit.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        file = parse(_RunFile, values, "")
        self.name = check_label(file.name, "name")
        self.seeds = file.seeds
        self.evaluation = file.evaluation
        _check_metric(self.evaluation)
        self.data = self._data(file.data)
        self.training = check_training(file.training, "training")
        self.models = [read_component("models", entry, self.training) for entry in file.models]
        self.defenses = [read_component("defenses", entry, self.training) for entry in file.defenses]
        for defense in self.defenses:
            for name in defense.only or ():
                if name not in (labels := [m.label for m in self.models]):
                    raise ConfigError(f"defenses.{defense.label}.only: {unknown_name('model', name, labels)}")
        # A reproduction of published numbers is no robustness report.
        default = [] if file.published else [{"name": "Suite"}]
        self.attacks = [read_attack(entry) for entry in (default if file.attacks is None else file.attacks)]
        self.published = file.published
        _check_published(self.published, [m.label for m in self.models], self.evaluation)
        _check_labels(self.models, self.defenses)
        _check_seeds(self.seeds)
        auto = [d.label for d in self.defenses if d.arguments.get("sensitive") == "auto"]
        if auto and "none" not in [d.name for d in self.defenses]:
            raise ConfigError(
                f"defenses.{auto[0]}: sensitive = 'auto' looks at the undefended model: add a defense named 'none'"
            )

    def read_data(self) -> HeteroData:
        """Reads or makes the data set, and looks no further.

        Raises:
            DataError: If the data cannot be read.
        """
        name = self.data["format"]
        try:
            return _reader(name)(**{k: v for k, v in self.data.items() if k != "format"})
        except Exception as error:
            # What breaks in a package's own reader costs no other data set.
            if name in FORMATS or isinstance(error, MMGraphError):
                raise
            raise DataError(f"data.format: the reader '{name}' broke: {type(error).__name__}: {error}") from error

    def build_data(self) -> HeteroData:
        """Reads or makes the data set, and sees that what is named fits it: before hours of training, not after.

        Raises:
            ConfigError: If a model cannot be built for the data, or a modality or an id is named that they lack.
            DataError: If the data cannot be read, or the test split is empty.
        """
        data = self.read_data()
        known = list(modalities(data))
        for defense in self.defenses:
            sensitive = defense.arguments.get("sensitive", "auto")
            named = [] if sensitive in ("auto", "all") else [sensitive] if isinstance(sensitive, str) else sensitive
            for name in defense.arguments.get("modalities") or named:
                if name not in known:
                    raise ConfigError(f"defenses.{defense.label}: {unknown_name('modality', name, known)}")
        for model in self.models:
            try:
                model.kind.from_data(data, **model.arguments)
            except MMGraphError as error:
                raise type(error)(f"models.{model.label}: {error}") from None
        Evaluator(data, "test", self.evaluation.k)
        self.build_attacks(data)
        return data

    def check_defenses(self, data: HeteroData) -> None:
        """Sets up every defense with every model that it goes with: before hours of training, not in them.

        Args:
            data: The data set.

        Raises:
            ConfigError: If a model cannot be defended so.
            MMGraphError: If a defense cannot be put around a model.
        """
        for model, defense in itertools.product(self.models, self.defenses):
            if defense.kind is not None and defense.fits(model):
                _check_defense(model, defense, data)

    def build_attacks(self, data: HeteroData, seed: int = 0) -> list[tuple[Attack, ThreatModel]]:
        """Every attack under every one of its threat models.

        Args:
            data: The data set.
            seed: Seed of drawn target items.

        Raises:
            ConfigError: If a threat model does not fit the data.
        """
        found = []
        for component, plan in self.attacks:
            try:
                threats = plan.threats(data, seed)
            except MMGraphError as error:
                raise type(error)(f"attacks.{component.label}: {error}") from None
            found += [(component.kind(**component.arguments), threat) for threat in threats]
        return found

    def describe(self) -> dict[str, Any]:
        """The whole configuration with all defaults, as plain JSON values; reads back to the same run."""
        described: dict[str, Any] = {
            "name": self.name,
            "seeds": self.seeds,
            "data": self.data,
            "training": self.training,
            "models": [c.describe() for c in self.models],
            "defenses": [c.describe() for c in self.defenses],
            "attacks": [plan.model_dump() | c.describe() for c, plan in self.attacks],
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


def _check_defense(model: Component, defense: Component, data: HeteroData) -> None:
    arguments = dict(defense.arguments)
    # The model is sound: it was built for these data before.
    if arguments.get("sensitive") == "auto":
        # Any modality stands for the sensitive one, which is not known yet.
        read = model.kind.from_data(data, **model.arguments).modalities
        arguments["sensitive"] = next(iter(read), "all")
    try:
        built, plugged = build(model, defense, data, 0, arguments)
        if plugged is not None:
            plugged.setup(built, data, built.graph(data))
        finish(built, defense, data, 0)
    except MMGraphError as error:
        # Data that are too poor for a defense are no mistake of the file's: it costs the pair's own cells.
        if not defense.wraps and (isinstance(error, DataError) or len(modalities(data)) < 2):
            return
        how = "around" if defense.wraps else "with"
        raise type(error)(
            f'defenses.{defense.label}, {how} {model.label}: {error}; say which models it goes with: only = ["..."]'
        ) from None
    except Exception:
        # Of torch, for want of memory, or of a package's own class: told when its turn comes, and costs no other.
        return


def _check_labels(models: Sequence[Component], defenses: Sequence[Component]) -> None:
    if twice := _repeated(model.label for model in models):
        raise ConfigError(f"models: {twice} occur twice; give each a 'label' of its own")
    keys = []
    for model in models:
        labels = [d.label for d in defenses if d.fits(model)]
        # One defense may have other settings for other models, as a search on each of them chooses.
        if twice := _repeated(labels):
            raise ConfigError(
                f"defenses: {twice} occur twice for {model.label}; give each a 'label' of its own, or models of its "
                "own by 'only'"
            )
        keys += [f"{model.label}-{label}" for label in labels]
    if twice := _repeated(keys):
        raise ConfigError(f"models and defenses: two of them would share the file names {twice}; choose other labels")


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _check_seeds(seeds: Sequence[int]) -> None:
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds: expects different whole numbers >= 0 (got {list(seeds)})")


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
