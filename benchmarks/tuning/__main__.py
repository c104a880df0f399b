"""``python -m benchmarks.tuning``: measures the machinery on each storage; prints JSON lines, --out writes them."""

from __future__ import annotations

import gc
import json
import logging
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import optuna
import torch
import typer
from optuna.trial import Trial

from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.tuning import Objective, StudyConfig, Workbench, open_study
from mmgraph_robust.tuning.storage import check_storage, has_heartbeat
from mmgraph_robust.tuning.worker import Worker
from mmgraph_robust.utils import keep_freed_memory, write_json

REPORTS = 20
TRIAL_S = 10.0
TOY: dict[str, Any] = {
    "name": "overhead",
    "data": {"format": "synthetic", "num_users": 300, "num_items": 200},
    "training": {"max_epochs": 3, "batch_size": 1024},
    "models": [{"name": "GRCN", "embedding_dim": 32}],
    "defenses": [{"name": "none"}, {"name": "AdversarialTraining"}],
    "attacks": [{"name": "PGD", "steps": 2, "modalities": ["all"]}],
}


def main(
    trials: Annotated[int, typer.Option(help="Trials per storage.", min=10)] = 100,
    postgres: Annotated[str, typer.Option(help="URL of a PostgreSQL database; left out otherwise.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where to write the JSON.")] = None,
) -> None:
    """Measures what a study adds to its trials, and whether its memory grows."""
    keep_freed_memory()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"trials": trials, "reports": REPORTS, "load": os.getloadavg()[0], "storages": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, storage in (
            ("sqlite", f"{folder}/study.db"), ("journal", f"{folder}/study.journal"), ("postgresql", postgres),
        ):  # fmt: skip
            if storage:
                result["storages"][name] = overhead(storage, trials, Path(folder))
                print(name, json.dumps(result["storages"][name]), flush=True)
        result["memory"] = memory(f"{folder}/memory.db", trials, Path(folder))
        print("memory", json.dumps(result["memory"]), flush=True)
    result["provenance"] = provenance(StudyConfig(_values("median")).run.build_data(), "cpu")
    if out is not None:
        write_json(out, result)


def overhead(storage: str, trials: int, folder: Path) -> dict[str, float]:
    """Seconds that a trial of no work and so many reports takes, from one's begin to the next one's."""
    config = StudyConfig(_values("median") | {"study": _values("median")["study"] | {"trials": trials}})
    begun: list[tuple[float, float]] = []

    def objective(trial: Trial) -> float:
        begun.append((time.perf_counter(), time.process_time()))
        values = config.suggest(trial)
        rate = float(values["training.learning_rate"])
        for step in range(1, REPORTS + 1):
            trial.report(rate, step)
            trial.should_prune()
            worker.sign()
        trial.set_constraint("clean loss", -1.0)
        for name in ("clean", "attacked", "best_epoch", "epochs", "seconds", "seeds"):
            trial.set_user_attr(name, rate)
        return rate

    storage = check_storage(storage)
    study = open_study(config, storage)
    worker = Worker(config, study, folder, lambda text: None, has_heartbeat(storage))
    worker.run(objective)
    # On a machine that others use as well, the wall clock measures them; computing time is the machinery's own.
    wall, cpu = ([b[i] - a[i] for a, b in pairwise(begun)] for i in (0, 1))
    last = median(cpu[-len(cpu) // 4 :])
    return {
        "wall_s": round(median(wall), 4), "cpu_s": round(median(cpu), 4), "cpu_s_last_quarter": round(last, 4),
        "cpu_percent_of_ten_seconds": round(100 * last / TRIAL_S, 2),
    }  # fmt: skip


def memory(storage: str, trials: int, folder: Path) -> dict[str, Any]:
    """Resident memory after some and after all of the short trials that train, attack, and now and then are pruned."""
    config = StudyConfig(_values("median") | {"study": _values("median")["study"] | {"trials": trials}})
    study = open_study(config, storage)
    sizes: list[float] = []
    worker = Worker(config, study, folder, lambda text: sizes.append(_resident_mb()))
    reference = {"GRCN": {"clean": 0.1, "sensitive": None}}
    worker.run(Objective(config, Workbench(config.run.build_data()), reference, worker.sign))
    states = [t.state.name for t in study.trials]
    tenth = trials // 10
    return {
        "mb_after": {str(n): round(sizes[n - 1], 1) for n in range(tenth, trials + 1, tenth)},
        "states": {state: states.count(state) for state in sorted(set(states))},
    }


def _values(pruner: str) -> dict[str, Any]:
    return TOY | {"study": {"objective": "constrained", "pruner": {"name": pruner, "warmup_epochs": 0}}}


def _resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    typer.run(main)
