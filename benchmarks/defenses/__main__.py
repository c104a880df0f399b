"""``python -m benchmarks.defenses hm GRCN``: searches, trains, attacks, writes a JSON per defense."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import options
from benchmarks.defenses.search import (
    METRIC,
    RESULTS,
    Trainer,
    candidates,
    check_backbone,
    labels_for,
    read_data,
    search,
    told_by,
)
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.utils import read_json, write_json


def main(
    name: options.Data,
    model: options.Model,
    only: options.Defenses = "",
    seeds: Annotated[int, typer.Option(help="How many of the seeds.", min=1)] = 3,
    threads: options.Threads = 0,
    device: options.Device = "cpu",
    folder: options.Folder = options.DATA,
    work: options.Work = Path("runs/defenses"),
    out: options.Out = RESULTS,
    progress: options.Progress = True,
) -> None:
    """What defenses are worth on one backbone after an equal search on validation.

    Goes on where it was killed; what an earlier result tells (of fewer seeds, say) is not done again, whichever device
    it is of: the page names what was not computed on a CPU.
    """
    check_device(device)
    check_backbone(name, model)
    chosen = options.listed(only, ";") or labels_for(name, model)
    for label in chosen:
        candidates(label)  # a misspelt name is said before hours of training
    with options.measuring(threads):
        trainer = Trainer(read_data(name, folder), work / name, progress, told_by(out / name), device)
        refusals = {label: trainer.refusal(model, label, name) for label in chosen}
        for label, reason in refusals.items():
            path = out / name / f"{options.file_name(model, label)}.json"
            if reason is not None:
                if path.exists() and "runs" in read_json(path):
                    raise ConfigError(f"{path} holds results of '{label}', which refuses {model} now: {reason}")
                about = {"schema": 1, "dataset": name, "model": model, "defense": label, "refused": reason}
                write_json(path, about)
                print(f"{model} refuses {label}: {reason}", flush=True)
                continue
            result = search(name, model, label, trainer, seeds)
            write_json(path, result)
            for run in result["runs"]:
                left = [f"{a['attack']} {'+'.join(a['modalities'])} {a['budget']:g}: {a[METRIC]:.4f}"
                        for a in run["test"]["attacks"]]  # fmt: skip
                print(f"{model} {label} {result['chosen']} seed {run['seed']}:"
                      f" clean {run['test']['clean'][METRIC]:.4f}; {'; '.join(left)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
