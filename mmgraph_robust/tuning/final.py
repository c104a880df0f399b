"""The test split, read once: the chosen trials and the defaults, over fresh seeds."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import run
from mmgraph_robust.reporting import full, headline, to_markdown, write_page
from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.selection import check_finished, choose, chosen_run, label_of, values_of
from mmgraph_robust.utils import write_text

_LOG = logging.getLogger(__name__)


def final_test(
    config: StudyConfig,
    study: optuna.Study,
    folder: str | Path,
    *,
    again: bool = False,
    jobs: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains the chosen trials and the defaults with fresh seeds and reads the test split, once.

    That it was done, with what and to which result, is kept in the study. A test that was interrupted goes on.

    Args:
        config: The study's configuration.
        study: The study.
        folder: The study's folder; the runs, a table and a page go to ``test`` in it.
        again: Whether the test split may be read once more, after what was chosen from it is known.
        jobs: Number of processes.
        threads: CPU threads of each.
        device: Where to compute.
        progress: Whether to show progress bars.

    Returns:
        The result entries.

    Raises:
        ConfigError: If there is nothing to choose from, trials still run, or the test split has been read before.
    """
    check_finished(config, study)
    chosen = choose(config, study)
    if not chosen:
        raise ConfigError("no trial can be chosen: none was finished, or none keeps enough of the clean quality")
    seeds = config.settings.test_seeds
    plan = {"trials": [t.number for t in chosen], "seeds": seeds}
    record = _begin(study, plan, again)
    entries: list[dict[str, Any]] = []
    root = Path(folder) / "test"
    values = {"defaults": config.defaults(chosen[0].params.get("model"), chosen[0].params.get("defense"))}
    values |= {label_of(t): values_of(config, t) for t in chosen}
    for label, each in values.items():
        _LOG.info("%s: testing %s with seeds %s", config.name, label, seeds)
        settings = chosen_run(config, study, each, label, seeds)
        entries += run(settings, root / label, jobs=jobs, threads=threads, device=device, progress=progress)
    tables = [headline(entries, config.metric), full(entries, config.metric)]
    write_text(root / "table.md", "\n\n".join(to_markdown(table) for table in tables) + "\n")
    write_page(entries, root / "report.html", title=f"Test of the study {config.name}", metric=config.metric)
    results = {label: _means(entries, label, config.metric) for label in values}
    study.set_user_attr("test", record | {"state": "done", "results": results})
    return entries


def _begin(study: optuna.Study, plan: dict[str, Any], again: bool) -> dict[str, Any]:
    before = study.user_attrs.get("test")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if before is None:
        record = plan | {"state": "begun", "times": 1, "begun": now}
    elif before["state"] == "begun" and plan == {key: before[key] for key in plan}:
        return dict(before)
    elif not again:
        raise ConfigError(
            f"the test split was read for this study already ({before['begun']}: trials {before['trials']}, seeds "
            f"{before['seeds']}): to choose by validation and test once is what makes the result honest. If it must be "
            "read again, ask for it (--test-again), and report that it was"
        )
    else:
        record = plan | {"state": "begun", "times": before["times"] + 1, "begun": now}
    study.set_user_attr("test", record)
    return record


def _means(entries: list[dict[str, Any]], label: str, metric: str) -> dict[str, float]:
    """Means over the seeds, clean and under the attack that hurts most in each."""
    own = [e for e in entries if e["defense"] == label]
    result = {"clean": fmean(e["clean"]["metrics"][metric] for e in own)}
    if all(e["attacks"] for e in own):
        result["attacked"] = fmean(min(a["metrics"][metric] for a in e["attacks"]) for e in own)
    return result
