"""A study in its storage: begun once, joined by whoever has the same configuration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.tuning.claims import counted, requeue
from mmgraph_robust.tuning.config import StudyConfig, renew
from mmgraph_robust.tuning.samplers import TrialSampler, make_pruner
from mmgraph_robust.tuning.storage import open_storage

_SCHEMA = 1
_SHOWN_DIFFERENCES = 8


def open_study(config: StudyConfig, storage: str | BaseStorage, create: bool = True) -> optuna.Study:
    """Begins the study of a configuration, or goes on with it.

    Args:
        config: The configuration.
        storage: See :func:`~mmgraph_robust.tuning.open_storage`, or what that returned.
        create: Whether it may be begun.

    Raises:
        ConfigError: If the storage holds a study of that name with another configuration (names the differences), or
            none where it may not be begun.
        CheckpointError: If the storage cannot be opened.
    """
    if isinstance(storage, str):
        again = partial(requeue, retries=config.settings.retries)
        storage = open_storage(storage, again)
    if not create and config.name not in optuna.get_all_study_names(storage):
        raise ConfigError(f"the storage has no study '{config.name}': run it first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=config.name, storage=storage, directions=["maximize"] * len(config.objectives),
            sampler=TrialSampler(config), pruner=make_pruner(config), load_if_exists=True,
        )  # fmt: skip
    described = config.describe()
    # Trials first: whoever begins the study beside us says whose it is before there is one.
    has_trials = bool(study.get_trials(deepcopy=False))
    if "config" not in study.user_attrs:
        if has_trials or len(study.directions) != len(config.objectives):
            raise ConfigError(f"the study '{config.name}' in the storage is none of this library: choose another name")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(config.objectives))
        study.set_user_attr("schema", _SCHEMA)
        study.set_user_attr("config", described)
    check_same(study, described)
    first = config.first()
    if first and not study.get_trials(deepcopy=False):
        study.enqueue_trial(first)
    return study


def check_same(study: optuna.Study, described: Mapping[str, Any]) -> None:
    """Makes sure that a study has this configuration.

    Raises:
        ConfigError: Names the differences.
    """
    attributes = study.user_attrs
    if attributes.get("schema") != _SCHEMA:
        raise ConfigError(
            f"the study '{study.study_name}' was begun by another version of this library "
            f"(its schema is {attributes.get('schema')}, known is {_SCHEMA}): finish it there, or choose another name"
        )
    differences = list(_differences(renew(attributes["config"]), described))
    if differences:
        more = len(differences) - _SHOWN_DIFFERENCES
        listed = "; ".join(differences[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise ConfigError(
            f"the study '{study.study_name}' has another configuration there ({listed}): its trials cannot be compared "
            "with new ones; choose another name, or another storage"
        )


def claim_value(study: optuna.Study, key: str, value: Any, what: str) -> None:
    """Writes something that must be the same for all of a study's workers, or makes sure that it is.

    Raises:
        ConfigError: If another value is there.
    """
    if key not in study.user_attrs:
        study.set_user_attr(key, value)
    if study.user_attrs[key] != value:
        raise ConfigError(
            f"the study '{study.study_name}' was begun with {what} than here: "
            "its trials cannot be compared with new ones; choose another name, or another storage"
        )


def spent(config: StudyConfig, trials: Sequence[FrozenTrial]) -> str | None:
    """Which budget of a study is used up, in words; None while trials may be begun."""
    settings = config.settings
    begun = len(counted(trials))
    if begun >= settings.trials:
        return f"{begun} of {settings.trials} trials"
    epochs = sum(t.user_attrs.get("epochs", 0) for t in trials)
    if settings.epochs is not None and epochs >= settings.epochs:
        return f"{epochs} of {settings.epochs} epochs"
    hours = sum(t.user_attrs.get("seconds", 0.0) for t in trials) / 3600
    if settings.hours is not None and hours >= settings.hours:
        return f"{hours:.2f} of {settings.hours} hours of computing"
    return None


def results(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end, and whose result counts."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps the study's constraint, where it has one."""
    return all(value <= 0 for value in trial.constraints.values())


def _differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(k for k in here if k not in there)]:
            yield from _differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, (old, new) in enumerate(zip(there, here, strict=True)):
            yield from _differences(old, new, f"{path}[{index}]")
    elif there != here or type(there) is not type(here):
        yield f"{path}: {there!r} there, {here!r} here"
