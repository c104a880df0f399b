"""``python -m benchmarks.quality.table``: the results as Markdown, with what the widely used toolbox reaches beside."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.quality.search import RESULTS, spaces
from mmgraph_robust.utils import read_json, write_text

_METRICS = {"recall@20": "Recall@20", "ndcg@20": "NDCG@20", "recall@10": "Recall@10", "ndcg@10": "NDCG@10"}


def table(results: list[dict[str, Any]], targets: dict[str, float]) -> str:
    """One row per backbone, the best first."""
    lines = [
        f"| backbone | {' | '.join(_METRICS.values())} | toolbox, untuned | chosen | epochs | seconds per epoch |",
        f"|---|{'---:|' * len(_METRICS)}---:|---|---:|---:|",
    ]
    for result in sorted(results, key=lambda r: -_mean(r, "recall@20")):
        runs = result["runs"]
        cells = [f"{_mean(result, m):.4f} ± {_std(result, m):.4f}" for m in _METRICS]
        target = targets.get(result["model"])
        limit = "" if all(run["stopped_early"] for run in runs) else " (limit)"
        arguments = {**result["chosen"]["model"], **result["chosen"]["training"]}
        lines.append(
            f"| {result['model']} | {' | '.join(cells)} | {'' if target is None else f'{target:.3f}'} "
            f"| {', '.join(f'{k} {v:g}' if not isinstance(v, str) else f'{k} {v}' for k, v in arguments.items())} "
            f"| {statistics.mean(run['epochs'] for run in runs):.0f}{limit} "
            f"| {sum(run['seconds'] for run in runs) / sum(run['epochs'] for run in runs):.2f} |"
        )
    return "\n".join(lines)


def page(folder: Path) -> str:
    """The whole page."""
    training = ", ".join(f"{k} {v}" for k, v in spaces()["training"].items())
    fewer = "".join(f" ({model}: {most} at most)" for model, most in spaces()["limits"].items())
    parts = [
        "# Quality of the backbones, clean",
        "Test metrics, mean ± sample standard deviation of three seeds. Every backbone got the same search: two "
        "learning rates times two values of one parameter of its own, trained for "
        f"{spaces()['candidates']['max_epochs']} epochs with seed 0 and judged on the validation split; the best of "
        f"each rate went on to the end ({training}), the better of the two got two more seeds, and only then the test "
        f"split was read, once. Limit: a seed was still rising when the epochs ended{fewer}. Seconds are wall time of "
        "one thread on a machine that was doing other work. "
        "Made by `python -m benchmarks.quality DATA --threads 1` and `python -m benchmarks.quality.table`.",
    ]
    for name in spaces()["data"]:
        results = [read_json(path) for path in sorted((folder / name).glob("*.json"))]
        if results:
            parts += [f"## {name}", table(results, spaces()["targets"].get(name, {}))]
    return "\n\n".join(parts) + "\n"


def _mean(result: dict[str, Any], metric: str) -> float:
    return statistics.mean(run["test"][metric] for run in result["runs"])


def _std(result: dict[str, Any], metric: str) -> float:
    return statistics.stdev(run["test"][metric] for run in result["runs"])


if __name__ == "__main__":
    write_text(RESULTS / "README.md", page(RESULTS))
    print(f"written to {RESULTS / 'README.md'}")
