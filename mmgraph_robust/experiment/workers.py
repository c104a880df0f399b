"""Who does the work: this process, several on this machine, or those of a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.utils import uninterrupted

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT_S = 10


class Workers:
    """Calls a function on each of some tasks, in other processes, through joblib; whoever leaves early ends them.

    Args:
        jobs: Number of processes on this machine.
        cluster: Address of a Dask scheduler whose workers do it in their place, e.g. ``tcp://10.0.0.1:8786``. They need
            the library, and the data and the run folder under the same paths.

    Raises:
        ConfigError: If the cluster cannot be reached, or Dask is not installed.
    """

    def __init__(self, jobs: int, cluster: str | None = None) -> None:
        self.jobs = jobs
        self._client: AbstractContextManager[Any] = nullcontext()
        self._deaths: tuple[type[Exception], ...] = (BrokenProcessPool,)
        self._backend = "loky"
        # Those that wait for no process are not handed over: joblib stumbles over them when it is interrupted.
        self._ahead = "2 * n_jobs"
        if cluster is not None:
            self._client, killed = _connect(cluster)
            self._deaths += (killed,)
            self._backend = "dask"
            # More workers may join.
            self._ahead = "all"

    def __call__(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """The results, in the order in which they are done.

        Args:
            function: A function of a module.
            tasks: What it is called on.

        Raises:
            MMGraphError: If a process dies.
        """
        with joblib.parallel_config(backend=self._backend, n_jobs=self.jobs if self._backend == "loky" else -1):
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=self._ahead)
            # Processes begin here. They leave an interruption to this one, which ends them.
            with uninterrupted():
                done = parallel(joblib.delayed(function)(task) for task in tasks)
            try:
                for result in done:  # noqa: UP028 (it would be closed with a warning before we hear of it)
                    yield result
            except self._deaths as error:
                raise MMGraphError(
                    "a process died, perhaps for want of memory; run again to go on, with fewer --jobs"
                ) from error
            except GeneratorExit:
                with warnings.catch_warnings():
                    # Whoever leaves early knows that there would have been more.
                    warnings.simplefilter("ignore")
                    done.close()
                raise

    def __enter__(self) -> Workers:
        self._client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._client.__exit__(*error)  # type: ignore[arg-type]


def _connect(address: str) -> tuple[AbstractContextManager[Any], type[Exception]]:
    """A client of the scheduler, and what is raised where its workers die."""
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ConfigError("a cluster needs Dask: pip install 'mmgraph_robust[cluster]'") from error
    try:
        client: AbstractContextManager[Any] = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at '{address}': {error}") from error
    return client, KilledWorker
