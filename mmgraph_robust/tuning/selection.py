"""Which trials a study chooses, by the validation split alone, and their configurations as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.tuning.config import StudyConfig, Values
from mmgraph_robust.tuning.study import is_feasible, results, spent
from mmgraph_robust.tuning.toml import to_toml
from mmgraph_robust.utils import write_text


def choose(config: StudyConfig, study: optuna.Study, count: int | None = None) -> list[FrozenTrial]:
    """The best trials: by value among those that keep the constraint, or spread evenly over the Pareto front.

    Args:
        config: The study's configuration.
        study: The study.
        count: How many at most (default: the study's ``test_trials``).
    """
    count = config.settings.test_trials if count is None else count
    if len(study.directions) == 1:
        found = [t for t in results(study) if is_feasible(t)]
        # Of equal trials the earlier.
        return sorted(found, key=lambda t: (-t.values[0], t.number))[:count]
    front = sorted(study.best_trials, key=lambda t: (-t.values[0], t.number))
    if len(front) <= count:
        return front
    return [front[round(i * (len(front) - 1) / max(1, count - 1))] for i in range(count)]


def chosen_run(
    config: StudyConfig, study: optuna.Study, values: Values, label: str, seeds: list[int] | None = None
) -> RunConfig:
    """The run of some values, for ``mmgraph run``: its attacks know the test positives, as a run's do.

    Args:
        config: The study's configuration.
        study: The study.
        values: The values.
        label: What the defense is called in results.
        seeds: Seeds (default: those of the trials).
    """
    reference = study.user_attrs.get("reference", {})
    sensitive = {model: entry["sensitive"] for model, entry in reference.items()}
    described = config.run_config(values, sensitive).describe()
    described["seeds"] = described["seeds"] if seeds is None else seeds
    described["defenses"][0]["label"] = label
    for attack in described["attacks"]:
        attack["labels"] = "test" if attack["labels"] == "val" else attack["labels"]
    return RunConfig(described)


def values_of(config: StudyConfig, trial: FrozenTrial) -> Values:
    """The values of a trial, as :meth:`StudyConfig.suggest` returned them."""
    return config.suggest(optuna.trial.FixedTrial(trial.params))


def label_of(trial: FrozenTrial) -> str:
    """What a trial is called in files and results."""
    return f"trial{trial.number}"


def export(config: StudyConfig, study: optuna.Study, folder: Path, count: int = 5) -> list[Path]:
    """Writes the best trials as configuration files for ``mmgraph run``, seeds and provenance included.

    Args:
        config: The study's configuration.
        study: The study.
        folder: Where to; files of trials that are no longer among the best are removed.
        count: How many.

    Returns:
        The files, the best first.
    """
    paths = []
    for rank, trial in enumerate(choose(config, study, count), 1):
        run = chosen_run(config, study, values_of(config, trial), label_of(trial))
        path = folder / f"{config.name}-{label_of(trial)}.toml"
        described = run.describe() | {"name": f"{config.name}-{label_of(trial)}"}
        write_text(path, to_toml(described, _comments(config, study, trial, rank)))
        paths.append(path)
    for path in folder.glob(f"{config.name}-trial*.toml"):
        if path not in paths:
            path.unlink()
    return paths


def _comments(config: StudyConfig, study: optuna.Study, trial: FrozenTrial, rank: int) -> str:
    made: dict[str, Any] = study.user_attrs.get("provenance", {})
    lines = [
        f"Trial {trial.number} of the study '{study.study_name}', place {rank} on the validation split.",
        *(f"{name}: {value}" for name, value in zip(config.objectives, trial.values, strict=True)),
        f"best epoch: {trial.user_attrs.get('best_epoch')}; seed of the study: {config.settings.seed}; "
        f"seeds of the trial: {config.run.seeds}",
        f"finished: {trial.datetime_complete}",
        *(f"{key}: {value}" for key, value in made.items()),
    ]
    return "\n".join(lines)


def check_finished(config: StudyConfig, study: optuna.Study) -> None:
    """Makes sure that nothing runs any more.

    Raises:
        ConfigError: If trials are running, or queued while there is something left to run them with.
    """
    trials = study.get_trials(deepcopy=False)
    # What was put back when a budget ran out stays in the queue for good.
    states = (TrialState.RUNNING,) if spent(config, trials) else (TrialState.RUNNING, TrialState.WAITING)
    open_ = [t.number for t in trials if t.state in states]
    if open_:
        raise ConfigError(f"trials {open_} of the study are running or queued: finish it before anything is chosen")
