"""``python -m benchmarks.quality hm``: searches, trains, writes a JSON per backbone."""

from __future__ import annotations

from pathlib import Path

import typer

from benchmarks import options
from benchmarks.quality.search import RESULTS, Trainer, candidates, read_data, search, spaces
from mmgraph_robust.utils import write_json


def main(
    name: options.Data,
    only: options.Backbones = "",
    threads: options.Threads = 0,
    folder: options.Folder = options.DATA,
    work: options.Work = Path("runs/quality"),
    out: options.Out = RESULTS,
    progress: options.Progress = True,
) -> None:
    """Quality of the backbones after an equal search on validation; goes on where it was killed."""
    chosen = options.listed(only) or list(spaces()["models"])
    for model in chosen:
        candidates(model)  # a misspelt name is said before hours of training
    with options.measuring(threads):
        data = read_data(name, folder)
        for model in chosen:
            result = search(name, model, Trainer(data, work / name, progress))
            write_json(out / name / f"{model}.json", result)
            recall = [run["test"]["recall@20"] for run in result["runs"]]
            print(f"{name} {model}: Recall@20 {', '.join(f'{r:.4f}' for r in recall)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
