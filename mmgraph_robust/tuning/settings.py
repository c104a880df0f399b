"""The tables ``[study]`` and ``[search]`` of a study's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.schema import Strict, parse


class TPE(Strict):
    """The tree-structured Parzen estimator, after so many trials at random."""

    name: Literal["tpe"] = "tpe"
    startup_trials: int = Field(default=10, ge=1)


class NSGA2(Strict):
    """The genetic algorithm NSGA-II, for several objectives at once."""

    name: Literal["nsga2"] = "nsga2"
    population: int = Field(default=16, ge=2)


class Random(Strict):
    """Independent draws, the control."""

    name: Literal["random"] = "random"


class NoPruner(Strict):
    """No trial is ended early."""

    name: Literal["none"] = "none"


class Median(Strict):
    """Ends a trial, later than `warmup_epochs`, whose validation curve is not among the best `percentile` per cent."""

    name: Literal["median"] = "median"
    startup_trials: int = Field(default=5, ge=0)
    warmup_epochs: int = Field(default=10, ge=0)
    percentile: float = Field(default=50.0, gt=0, lt=100)


class Hyperband(Strict):
    """Ends a trial at growing numbers of epochs unless its validation curve is among the best there."""

    name: Literal["hyperband"] = "hyperband"
    min_epochs: int = Field(default=5, ge=1)
    reduction: int = Field(default=3, ge=2)


class Wilcoxon(Strict):
    """Ends a trial that the signed-rank test over the seeds done so far finds worse than the best."""

    name: Literal["wilcoxon"] = "wilcoxon"
    p: float = Field(default=0.1, gt=0, le=1)


SAMPLERS: dict[str, type[Strict]] = {"tpe": TPE, "nsga2": NSGA2, "random": Random}
PRUNERS: dict[str, type[Strict]] = {"none": NoPruner, "median": Median, "hyperband": Hyperband, "wilcoxon": Wilcoxon}


class Settings(Strict):
    """The table ``[study]``."""

    objective: Literal["clean", "attacked", "constrained", "pareto"]
    max_clean_loss: float = Field(default=0.02, ge=0, lt=1)
    reference: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["undefended"] = "undefended"
    sampler: dict[str, Any] = {"name": "tpe"}
    pruner: dict[str, Any] = {"name": "none"}
    seed: int = Field(default=0, ge=0)
    trials: int = Field(default=50, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    retries: int = Field(default=2, ge=0)
    lost_after: float = Field(default=3600.0, gt=0)
    test_seeds: list[int] = Field(default=[1000, 1001, 1002], min_length=1)
    test_trials: int = Field(default=1, ge=1)


class Search(Strict):
    """The table ``[search]``: what a file says about the search spaces of its components, by label and argument."""

    training: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}
    defenses: dict[str, dict[str, Any]] = {}


# What may change between two calls: how long a study goes on, not what it is.
_CIRCUMSTANCES = ("trials", "epochs", "hours", "retries", "lost_after", "test_seeds", "test_trials")


def describe_settings(settings: Settings, sampler: Strict, pruner: Strict) -> dict[str, Any]:
    """What a study is, without what may change between two calls."""
    kept = settings.model_dump(exclude={*_CIRCUMSTANCES, "sampler", "pruner"})
    return kept | {"sampler": sampler.model_dump(), "pruner": pruner.model_dump()}


def named(known: Mapping[str, type[Strict]], values: Mapping[str, Any], where: str) -> Strict:
    """The sampler or pruner of a table by its ``name``, its keys checked.

    Raises:
        ConfigError: If the name or a key is unknown, or a value does not fit.
    """
    name = values.get("name")
    if name not in known:
        raise ConfigError(f"{where}: {unknown_name('name', name, known)}")
    return parse(known[str(name)], values, where)
