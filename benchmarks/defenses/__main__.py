"""``python -m benchmarks.defenses hm GRCN``: searches, trains, attacks, writes a JSON per defense."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.defenses.search import METRIC, RESULTS, ROOT, Trainer, candidates, pick, read_data, search, spaces
from mmgraph_robust.data import DataWarning
from mmgraph_robust.utils import keep_freed_memory, write_json


def main(
    name: Annotated[str, typer.Argument(help="The data set, as spaces.toml names it.")],
    model: Annotated[str, typer.Argument(help="The backbone, as spaces.toml names it.")],
    only: Annotated[str, typer.Option(help="Defenses, separated by semicolons; all by default.")] = "",
    seeds: Annotated[int, typer.Option(help="How many of the seeds.", min=1)] = 3,
    threads: Annotated[int, typer.Option(help="Threads; 0 takes torch's default.", min=0)] = 0,
    folder: Annotated[Path, typer.Option(help="Where the data sets lie.")] = ROOT / ".." / "shared" / "data",
    work: Annotated[Path, typer.Option(help="Trained models and what a killed run goes on from.")] = Path(
        "runs/defenses"
    ),
    out: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
    progress: Annotated[bool, typer.Option(help="Whether bars are shown.")] = True,
) -> None:
    """What defenses are worth on one backbone after an equal search on validation; goes on where it was killed."""
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    chosen = [label.strip() for label in only.split(";") if label.strip()] or list(spaces()["defenses"])
    pick("models", model)
    for label in chosen:
        candidates(label)  # a misspelt name is said before hours of training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        data = read_data(name, folder)
        for label in chosen:
            result = search(name, model, label, Trainer(data, work / name, progress), seeds)
            write_json(out / name / f"{model}-{re.sub('[^A-Za-z0-9]+', '-', label)}.json", result)
            for run in result["runs"]:
                left = [f"{a['attack']} {'+'.join(a['modalities'])} {a['budget']:g}: {a[METRIC]:.4f}"
                        for a in run["test"]["attacks"]]  # fmt: skip
                print(f"{model} {label} {result['chosen']} seed {run['seed']}:"
                      f" clean {run['test']['clean'][METRIC]:.4f}; {'; '.join(left)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
