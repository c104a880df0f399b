"""``python -m benchmarks.quality hm``: searches, trains, writes a JSON per backbone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.quality.search import RESULTS, ROOT, Trainer, candidates, read_data, search, spaces
from mmgraph_robust.data import DataWarning
from mmgraph_robust.utils import keep_freed_memory, write_json


def main(
    name: Annotated[str, typer.Argument(help="The data set, as spaces.toml names it.")],
    only: Annotated[str, typer.Option(help="Backbones, separated by commas; all by default.")] = "",
    threads: Annotated[int, typer.Option(help="Threads; 0 takes torch's default.", min=0)] = 0,
    folder: Annotated[Path, typer.Option(help="Where the data sets lie.")] = ROOT / ".." / "shared" / "data",
    work: Annotated[Path, typer.Option(help="Trained models and what a killed run goes on from.")] = Path(
        "runs/quality"
    ),
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
    progress: Annotated[bool, typer.Option(help="Whether bars are shown.")] = True,
) -> None:
    """Quality of the backbones after an equal search on validation; goes on where it was killed."""
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    chosen = [model.strip() for model in only.split(",") if model.strip()] or list(spaces()["models"])
    for model in chosen:
        candidates(model)  # a misspelt name is said before hours of training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        data = read_data(name, folder)
        for model in chosen:
            result = search(name, model, Trainer(data, work / name, progress))
            write_json(out / name / f"{model}.json", result)
            recall = [run["test"]["recall@20"] for run in result["runs"]]
            print(f"{name} {model}: Recall@20 {', '.join(f'{r:.4f}' for r in recall)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
