"""The steps of a study, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import headline, print_table
from mmgraph_robust.tuning.config import read_study
from mmgraph_robust.tuning.final import final_test
from mmgraph_robust.tuning.page import trial_table, write_study_page
from mmgraph_robust.tuning.selection import export
from mmgraph_robust.tuning.storage import check_storage, default_storage, shown
from mmgraph_robust.tuning.study import open_study
from mmgraph_robust.tuning.tune import tune

_SHOWN = 10


class Command:
    """A study as the command line names it.

    Args:
        path: Its configuration file.
        overrides: ``key=value`` pairs.
        folder: Its folder (default: ``runs/NAME``).
        storage: Its storage (default: in the folder).
        workers: Number of processes.
        threads: CPU threads of each.
        device: Where to compute.
    """

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str],
        folder: Path | None,
        storage: str | None,
        workers: int,
        threads: int | None,
        device: str,
    ) -> None:
        # What becomes of each trial is said once, by the workers.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.config = read_study(path, overrides)
        self.folder = folder or Path("runs") / self.config.name
        self.storage = check_storage(storage or default_storage(self.folder, workers))
        self._workers = workers
        self._threads = threads
        self._device = device

    def run(self) -> None:
        """Runs trials until the budget is used up."""
        tune(
            self.config, self.folder, workers=self._workers, storage=self.storage, threads=self._threads,
            device=self._device,
        )  # fmt: skip

    def test(self, again: bool, progress: bool) -> None:
        """Tests the chosen trials."""
        entries = final_test(
            self.config, self._existing(), self.folder, again=again, jobs=self._workers, threads=self._threads,
            device=self._device, progress=progress,
        )  # fmt: skip
        print_table(headline(entries, self.config.metric))

    def show(self) -> list[str]:
        """Prints the best trials, and writes the page and the best configurations.

        Returns:
            Lines for the reader.
        """
        study = self._existing()
        print_table(trial_table(self.config, study, _SHOWN, parameters=False))
        page = self.folder / "study.html"
        write_study_page(self.config, study, page)
        paths = export(self.config, study, self.folder / "best")
        lines = [
            f"The whole study, with pictures: {page}",
            f"All of it, live (pip install optuna-dashboard): optuna-dashboard {shown(self.storage)}",
        ]
        if paths:
            lines.insert(1, f"The best trial, to be run: mmgraph run {paths[0]}")
        if "test" not in study.user_attrs and paths:
            lines.append("The test split has not been read; --test reads it, once, for the chosen trials")
        return lines

    def _existing(self) -> optuna.Study:
        if "://" not in self.storage or self.storage.startswith("sqlite"):
            path = Path(self.storage.removeprefix("sqlite:///"))
            if not path.exists():
                raise ConfigError(f"there is no study in {path}: run it first")
        return open_study(self.config, self.storage, create=False)
