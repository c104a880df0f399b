"""Optuna's samplers and pruners, as a study names them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.settings import NSGA2, TPE, Hyperband, Median, Wilcoxon


class TrialSampler(BaseSampler):
    """A sampler whose randomness comes from the study's seed and the trial's number.

    Optuna's own samplers begin with their seed in every process: a study that goes on would repeat the trials that it
    has done, and workers with equal seeds each other's.

    Args:
        config: The study.
    """

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._sampler = self._make(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begins the trial's own randomness."""
        self._sampler = self._make(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What is drawn together, drawn."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One parameter, drawn."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """What the sampler keeps of a finished trial."""
        self._sampler.after_trial(study, trial, state, values)

    def _make(self, number: int) -> BaseSampler:
        state = np.random.SeedSequence([self._config.settings.seed, number]).generate_state(1)
        seed, chosen = int(state[0]), self._config.sampler
        if isinstance(chosen, NSGA2):
            return NSGAIISampler(population_size=chosen.population, seed=seed)
        if not isinstance(chosen, TPE):
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Parameters are drawn together, those of each model and defense as a group of their own.
            return TPESampler(n_startup_trials=chosen.startup_trials, multivariate=True, group=True, seed=seed)


def make_pruner(config: StudyConfig) -> BasePruner:
    """The pruner that a study names."""
    chosen = config.pruner
    if isinstance(chosen, Median):
        # Optuna prunes at its last warm-up step already.
        return PercentilePruner(chosen.percentile, chosen.startup_trials, chosen.warmup_epochs + 1)
    if isinstance(chosen, Hyperband):
        return HyperbandPruner(chosen.min_epochs, max(chosen.min_epochs, config.max_epochs), chosen.reduction)
    if isinstance(chosen, Wilcoxon):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return WilcoxonPruner(p_threshold=chosen.p, n_startup_steps=0)
    return NopPruner()
