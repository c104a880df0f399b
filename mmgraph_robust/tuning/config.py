"""What a study consists of, read from TOML or JSON: a run file with ``[study]`` and ``[search]`` in it."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial
from torch_geometric.data import HeteroData

from mmgraph_robust.data import modalities
from mmgraph_robust.errors import ConfigError, MMGraphError, unknown_name
from mmgraph_robust.experiment.build import build, finish
from mmgraph_robust.experiment.component import GIVEN_TO_FIT, GIVEN_TO_MODEL, Component
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.files import apply_overrides, read_values
from mmgraph_robust.experiment.schema import parse
from mmgraph_robust.training import SEARCH_SPACE, fit
from mmgraph_robust.tuning.settings import (
    NSGA2,
    PRUNERS,
    SAMPLERS,
    NoPruner,
    Search,
    Settings,
    Wilcoxon,
    describe_settings,
    named,
)
from mmgraph_robust.tuning.space import Parameter, parameters_of

Values = dict[str, Any]
"""The values of a trial by the parameters' names, such as ``models.GRCN.reg``, and its ``model`` and ``defense``."""


class StudyConfig:
    """A whole study, every key checked.

    Args:
        values: The content of a configuration file: the keys of a run file, ``study`` and ``search``.

    Raises:
        ConfigError: If a key is unknown (names the closest known one), a value does not fit, or a parameter does not
            take all of the values among which it would be searched.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        content: dict[str, Any] = copy.deepcopy(dict(values))
        self.settings = parse(Settings, _table(content, "study"), "study")
        search = parse(Search, _table(content, "search"), "search")
        self.sampler = named(SAMPLERS, self.settings.sampler, "study.sampler")
        self.pruner = named(PRUNERS, self.settings.pruner, "study.pruner")
        # A study attacks with what it names; the suite that reports fall back to is too slow for every trial.
        content.setdefault("attacks", [])
        self._values = _with_validation_labels(content)
        self.run = RunConfig(_readable(self._values))
        self._defenses = [d for d in self.run.defenses if d.label != _UNDEFENDED]
        for defense, model in itertools.product(self.run.defenses, self.run.models):
            if defense.only is not None and model.label not in defense.only:
                raise ConfigError(
                    f"defenses.{defense.label}.only: a study combines every defense with every model, and this one "
                    f"does not go with {model.label}: make a study for each"
                )
        self.parameters = list(self._parameters(search))
        self._check()

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.run.name

    @property
    def metric(self) -> str:
        """The metric that is searched for."""
        return self.run.evaluation.metric

    @property
    def objectives(self) -> tuple[str, ...]:
        """What a trial returns, each to be large."""
        attacked = f"attacked {self.metric}"
        return {
            "clean": (f"clean {self.metric}",),
            "attacked": (attacked,),
            "constrained": (attacked,),
            "pareto": (f"clean {self.metric}", attacked),
        }[self.settings.objective]

    @property
    def max_epochs(self) -> int:
        """The epochs of the longest training."""
        run = self.run
        return max(
            int((run.training | model.training | defense.training)["max_epochs"])
            for model in run.models
            for defense in run.defenses
        )

    @property
    def needs_reference(self) -> bool:
        """Whether undefended models have to be trained before the first trial."""
        constrained = self.settings.objective == "constrained" and self.settings.reference == "undefended"
        return constrained or any(d.arguments.get("sensitive") == "auto" for d in self._defenses)

    def suggest(self, trial: BaseTrial) -> Values:
        """The values of a trial; those of a model or defense only where it is chosen."""
        values: Values = {}
        for kind, components in (("model", self.run.models), ("defense", self._defenses)):
            labels = [c.label for c in components]
            values[kind] = trial.suggest_categorical(kind, labels) if len(labels) > 1 else labels[0]
        for parameter in self._active(values):
            values[parameter.name] = parameter.suggest(trial)
        return values

    def defaults(self, model: str | None = None, defense: str | None = None) -> Values:
        """The values without a search, of the named model and defense or else the first."""
        values: Values = {
            "model": model or self.run.models[0].label,
            "defense": defense or self._defenses[0].label,
        }
        return values | {p.name: p.default for p in self._active(values)}

    def first(self) -> dict[str, Any] | None:
        """The default values as a trial to begin with; None where the file searches elsewhere."""
        values = self.defaults()
        if any(p.default not in p.domain for p in self._active(values)):
            return None
        single = [k for k, c in (("model", self.run.models), ("defense", self._defenses)) if len(c) == 1]
        return {k: v for k, v in values.items() if k not in single}

    def run_config(self, values: Values, sensitive: Mapping[str, str] | None = None) -> RunConfig:
        """The run of one trial: its model and its defense.

        Args:
            values: What :meth:`suggest` returned.
            sensitive: The sensitive modality by model, for defenses that ask for it by ``sensitive = "auto"``.
        """
        result = copy.deepcopy(self._values)
        model = _entry(result["models"], values["model"])
        defense = _entry(result.get("defenses", [{"name": "none"}]), values["defense"])
        places = {"training": result.setdefault("training", {}), "models": model, "defenses": defense}
        for parameter in self._active(values):
            parameter.put(places[parameter.section[0]], values[parameter.name])
        if defense.get("sensitive") == "auto" and sensitive is not None:
            defense["sensitive"] = sensitive[values["model"]]
        # It names models that this run lacks.
        defense.pop("only", None)
        result["models"], result["defenses"] = [model], [defense]
        return RunConfig(_readable(result))

    def undefended(self, model: str) -> RunConfig:
        """The run of one model with default values and without a defense."""
        result = copy.deepcopy(self._values)
        result["models"], result["defenses"] = [_entry(result["models"], model)], [{"name": "none"}]
        return RunConfig(result)

    def check_data(self, data: HeteroData) -> None:
        """Builds every model and sets up every defense at the ends of every range: before hours of search, not in them.

        Raises:
            ConfigError: If a model cannot be built so, or not be defended so.
        """
        # Any modality stands for the sensitive one, which is not known yet.
        sensitive = {m.label: next(iter(modalities(data)), "") for m in self.run.models}
        for where, run in self._extremes(sensitive):
            model, plugged = run.models[0], run.defenses[0]
            try:
                built, defense = build(model, plugged, data, 0)
                if defense is not None:
                    defense.setup(built, data, built.graph(data))
                finish(built, plugged, data, 0)
            except MMGraphError as error:
                under = "" if plugged.name == "none" else f", with the defense '{plugged.label}'"
                raise type(error)(f"{where}{under}: {error}") from None

    def describe(self) -> dict[str, Any]:
        """What the study is, as plain JSON values, without what may change between two calls."""
        described = {
            "run": self.run.describe(),
            "study": describe_settings(self.settings, self.sampler, self.pruner),
            "search": {p.name: p.describe() for p in self.parameters},
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    def _parameters(self, search: Search) -> Any:
        # A setting that a component has of its own would hide the searched one.
        pinned = {k for c in (*self.run.models, *self._defenses) for k in c.training}
        hidden = sorted(pinned & set(search.training))
        if hidden:
            raise ConfigError(f"search.training: {hidden} are set by a model or defense; search or set them, not both")
        fixed = dict(self._values.get("training", {}))
        changes = search.training | dict.fromkeys(pinned, False)
        yield from parameters_of(("training",), fit, SEARCH_SPACE, fixed, changes, GIVEN_TO_FIT)
        for kind, components, skip in (("models", self.run.models, GIVEN_TO_MODEL), ("defenses", self._defenses, ())):
            own = getattr(search, kind)
            labels = [c.label for c in components]
            for label in own:
                if label not in labels:
                    raise ConfigError(f"search.{kind}: {unknown_name('label', label, labels)}")
            for component in components:
                changes = own.get(component.label, {})
                if component.name == "none":
                    if changes:
                        raise ConfigError(f"search.{kind}.{component.label}: 'none' has nothing to search")
                    continue
                target = component.kind
                given = _given(self._values[kind], component)
                yield from parameters_of((kind, component.label), target, target.search_space, given, changes, skip)

    def _active(self, values: Values) -> list[Parameter]:
        chosen = {("training",), ("models", values["model"]), ("defenses", values["defense"])}
        return [p for p in self.parameters if p.section in chosen]

    def _extremes(self, sensitive: Mapping[str, str] | None = None) -> Any:
        for model in self.run.models:
            for defense in self._defenses:
                values = self.defaults(model.label, defense.label)
                for parameter in self._active(values):
                    for end in parameter.domain.ends:
                        changed = values | {parameter.name: end}
                        yield f"search.{parameter.name} = {end!r}", self._try(changed, parameter, sensitive)

    def _try(self, values: Values, parameter: Parameter, sensitive: Mapping[str, str] | None) -> RunConfig:
        try:
            return self.run_config(values, sensitive)
        except MMGraphError as error:
            raise ConfigError(f"search.{parameter.name}: {error}") from None

    def _check(self) -> None:
        settings, run = self.settings, self.run
        if settings.objective != "clean" and not run.attacks:
            raise ConfigError(f"study.objective = '{settings.objective}' needs an attack: add [[attacks]]")
        if not self.parameters and len(run.models) == len(self._defenses) == 1:
            raise ConfigError("search: nothing is searched; name a parameter, or take a value out of the file")
        immune = [m.label for m in run.models if m.kind.feature_path == "none"]
        if immune and any(d.name != "none" for d in self._defenses):
            raise ConfigError(f"models: {immune} read no features, which no defense can change: leave them out")
        both = sorted({*settings.test_seeds} & {*run.seeds})
        if both or len({*settings.test_seeds}) < len(settings.test_seeds) or min(settings.test_seeds) < 0:
            raise ConfigError(
                f"study.test_seeds expects different whole numbers >= 0, none of those of the trials "
                f"(got {settings.test_seeds}; the trials use {run.seeds})"
            )
        if settings.objective == "pareto" and not isinstance(self.pruner, NoPruner):
            raise ConfigError("study.pruner: with two objectives no trial can be said to be behind; use 'none'")
        if isinstance(self.sampler, NSGA2) and settings.objective != "pareto":
            raise ConfigError("study.sampler: 'nsga2' is for the objective 'pareto'; use 'tpe'")
        # The smallest p that the one-sided test can give over n seeds is 2^-n; the last seed spares nothing.
        if isinstance(self.pruner, Wilcoxon) and 0.5 ** (len(run.seeds) - 1) >= self.pruner.p:
            raise ConfigError(
                f"study.pruner: with {len(run.seeds)} seeds 'wilcoxon' can never be sure to p = {self.pruner.p} "
                "before the last: use more seeds or a larger p"
            )
        for _ in self._extremes():
            pass


def renew(described: Mapping[str, Any]) -> dict[str, Any]:
    """What :meth:`StudyConfig.describe` returned in an older version, with today's defaults for what is new since."""
    settings = dict(described["study"])
    sampler = named(SAMPLERS, settings.pop("sampler"), "study.sampler")
    pruner = named(PRUNERS, settings.pop("pruner"), "study.pruner")
    return {
        "run": RunConfig(described["run"]).describe(),
        "study": describe_settings(parse(Settings, settings, "study"), sampler, pruner),
        "search": described["search"],
    }


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads the configuration file of a study.

    Args:
        path: A ``.toml`` or ``.json`` file.
        overrides: ``key=value`` pairs such as ``study.seed=1`` or ``models.GRCN.embedding_dim=32``.

    Raises:
        ConfigError: If the file cannot be read, or anything in it or in `overrides` does not fit.
    """
    values = apply_overrides(read_values(path), overrides)
    try:
        return StudyConfig(values)
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


_UNDEFENDED = "undefended-reference"


def _readable(values: dict[str, Any]) -> dict[str, Any]:
    # A run looks for the sensitive modality at an undefended model of its own; a study has found it before its trials.
    entries = _entries(values, "defenses")
    if any(e.get("sensitive") == "auto" for e in entries) and all(e.get("name") != "none" for e in entries):
        return values | {"defenses": [*entries, {"name": "none", "label": _UNDEFENDED}]}
    return values


def _with_validation_labels(values: dict[str, Any]) -> dict[str, Any]:
    for entry in _entries(values, "attacks"):
        if entry.setdefault("labels", "val") == "test":
            raise ConfigError(
                f"attacks.{entry.get('name')}: labels = 'test' would let the search read the test split: leave it out "
                "(it is 'val' here, and becomes 'test' when the chosen trials are tested)"
            )
    return values


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.pop(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{key} expects a table (got {table!r})")
    return table


def _entries(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    # What is no list of tables is refused where the run is read.
    entries = values.get(key)
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _entry(entries: Sequence[dict[str, Any]], label: str) -> dict[str, Any]:
    return next(e for e in entries if e.get("label", e["name"]) == label)


def _given(entries: Sequence[dict[str, Any]], component: Component) -> dict[str, Any]:
    return {k: v for k, v in _entry(entries, component.label).items() if k not in ("name", "label", "training")}
