"""One worker: trial after trial, until the study's budget is used up."""

from __future__ import annotations

import gc
import logging
import math
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.tuning.claims import Claim, counted, recover, requeue
from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.journal import FileLock
from mmgraph_robust.tuning.objective import FAILURES
from mmgraph_robust.tuning.study import is_feasible, results, spent
from mmgraph_robust.utils import Terminated

_LOG = logging.getLogger(__name__)

Tell = Callable[[str], None]
Objective = Callable[[Trial], float | tuple[float, ...]]


class Worker:
    """Runs the trials of a study.

    Args:
        config: The study's configuration.
        study: The study.
        folder: A folder of this machine's workers, for the lock under which they begin trials.
        tell: Takes a line for people after each trial.
        heartbeat: Whether the storage knows heartbeats, and finds the lost trials of other machines itself.
    """

    def __init__(
        self,
        config: StudyConfig,
        study: optuna.Study,
        folder: Path,
        tell: Tell = _LOG.info,
        heartbeat: bool = False,
    ) -> None:
        self._config = config
        self._study = study
        self._tell = tell
        self._claim: Claim | None = None
        self._number: int | None = None
        self._heartbeat = heartbeat
        self._parent = multiprocessing.parent_process()
        folder.mkdir(parents=True, exist_ok=True)
        # Workers count the trials and begin the next one by one, so that they do not begin too many.
        self._begin = FileLock(folder / "begin.lock")

    def sign(self) -> None:
        """Says that the worker lives; to be called from time to time while a trial runs.

        Raises:
            Terminated: If the process that started this one is gone.
        """
        if self._parent is not None and not self._parent.is_alive():
            raise Terminated("the process that started this worker is gone")
        if self._claim is not None:
            self._claim.sign()

    def run(self, objective: Objective) -> str:
        """Runs trials until a budget is used up.

        Args:
            objective: What a trial does.

        Returns:
            Which, in words.

        Raises:
            CheckpointError: If the storage fails.
            KeyboardInterrupt: If the process is asked to end; its trial is queued again.
        """
        # Garbage is collected after each trial, since a pruned one's model hangs in its traceback; what was there
        # before the first need not be looked through.
        gc.freeze()
        try:
            while True:
                reason = self._step(objective)
                if reason is not None:
                    return reason
        except optuna.exceptions.StorageInternalError as error:
            raise CheckpointError(f"the storage failed ({error}): the same command goes on from here") from error
        finally:
            gc.unfreeze()

    def _step(self, objective: Objective) -> str | None:
        settings = self._config.settings
        self._number = None
        self._begin.acquire()
        try:
            recover(self._study, settings.retries, settings.lost_after, self._heartbeat)
            reason = spent(self._config, self._study.get_trials(deepcopy=False))
            if reason is not None:
                return reason
            number = self._run_trial(objective)
        except KeyboardInterrupt:
            self._put_back()
            raise
        finally:
            self._begin.release()
            self._claim = None
        if number is not None:
            self._tell(self._line(number))
        return None

    def _run_trial(self, objective: Objective) -> int | None:
        returned = False

        def run(trial: Trial) -> float | tuple[float, ...]:
            nonlocal returned
            self._number = trial.number
            self._claim = Claim(trial)
            self._begin.release()
            try:
                value = objective(trial)
            except optuna.exceptions.UpdateFinishedTrialError:
                value = math.nan
            returned = True
            return value

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                self._study.optimize(run, n_trials=1, catch=FAILURES, gc_after_trial=True)
            except (ValueError, AssertionError):
                # Optuna's answers to a trial that is finished already: the others took this worker for dead.
                if not returned or self._number is None or not self._trial(self._number).state.is_finished():
                    raise
                _LOG.warning("trial %d was taken for lost meanwhile: what came of it does not count", self._number)
                return None
        return self._number

    def _put_back(self) -> None:
        if self._number is None:
            return
        trial = self._trial(self._number)
        if trial.state == TrialState.RUNNING:
            self._study.tell(self._number, state=TrialState.FAIL)
        if trial.state in (TrialState.RUNNING, TrialState.FAIL):
            requeue(self._study, trial, retries=None)

    def _trial(self, number: int) -> FrozenTrial:
        return next(t for t in self._study.get_trials(deepcopy=False) if t.number == number)

    def _line(self, number: int) -> str:
        trials = self._study.get_trials(deepcopy=False)
        trial = next(t for t in trials if t.number == number)
        head = f"[{len(counted(trials))}/{self._config.settings.trials}] trial {number}"
        if trial.state == TrialState.COMPLETE:
            text = ", ".join(
                f"{name} {value:.4f}" for name, value in zip(self._config.objectives, trial.values, strict=True)
            )
            text += "" if is_feasible(trial) else " (loses too much clean quality)"
        elif trial.state == TrialState.PRUNED:
            text = "pruned"
        else:
            text = f"failed: {trial.user_attrs.get('error', 'see above')}"
        spent_on = f"{trial.user_attrs.get('epochs', 0)} epochs, {trial.user_attrs.get('seconds', 0):.0f} s"
        return f"{head}: {text}; {spent_on}; {best_so_far(self._study)}"


def best_so_far(study: optuna.Study) -> str:
    """The best trial of a study, or the size of its Pareto front, in words."""
    found = [t for t in results(study) if is_feasible(t)]
    if not found:
        return "no result yet" if not results(study) else "none keeps enough clean quality yet"
    if len(study.directions) > 1:
        return f"{len(study.best_trials)} trials on the front"
    best = max(found, key=lambda t: t.values[0])
    return f"best {best.values[0]:.4f} (trial {best.number})"
