"""``python -m benchmarks.speed``: measures, writes a JSON per device, prints a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from benchmarks import options
from benchmarks.speed.case import Settings
from benchmarks.speed.cases import OPERATIONS
from benchmarks.speed.clock import copy_bandwidth
from benchmarks.speed.measure import measure, steps
from benchmarks.speed.records import add, begin, default_path, provenance
from benchmarks.speed.table import flat
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.utils import keep_freed_memory, write_json


def main(
    only: Annotated[str, typer.Option(help=f"Operations, separated by commas, of: {', '.join(OPERATIONS)}.")] = "",
    named: Annotated[str, typer.Option(help="Only cases whose names hold this text.")] = "",
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    repeats: Annotated[int, typer.Option(help="Timed passes per contestant; slow ones get fewer.", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="Default: benchmarks/results/speed/<device>.json.")] = None,
    data: Annotated[Path, typer.Option(help="The folder of amazon-baby and amazon-sports.")] = Settings.data,
    million: Annotated[
        str, typer.Option(help="Also search a million rows: 'faiss' (minutes) or 'torch' (exact; half an hour up).")
    ] = "",
    memory: Annotated[bool, typer.Option(help="Whether peak memory is measured.")] = True,
    keep_freed: Annotated[bool, typer.Option(help="Let glibc keep freed memory, as the command line does.")] = False,
    smoke: Annotated[bool, typer.Option(help="Tiny made-up inputs: shows that all of it runs.")] = False,
) -> None:
    """Measures the sparse kernels against other ways to compute the same. A smoke run writes only where told to."""
    operations = options.listed(only) or list(OPERATIONS)
    if unknown := [name for name in operations if name not in OPERATIONS]:
        raise typer.BadParameter(f"--only knows {', '.join(OPERATIONS)} (got {', '.join(unknown)})")
    if million not in ("", "faiss", "torch"):
        raise typer.BadParameter(f"--million knows 'faiss' and 'torch' (got '{million}')")
    check_device(device)
    if threads:
        torch.set_num_threads(threads)
    if keep_freed:
        keep_freed_memory()
    settings = Settings(device, torch.get_num_threads(), repeats, smoke, million, memory, keep_freed, data)
    path = out if out is not None or smoke else default_path(settings)
    bandwidth = copy_bandwidth(device, 8 << 20 if smoke else 256 << 20)
    run = provenance(settings, bandwidth)
    record = begin(path, settings)
    cases = [case for name in operations for case in OPERATIONS[name](settings) if named in case.name]
    with tqdm(total=sum(steps(case, settings) for case in cases), unit="run", dynamic_ncols=True) as bar:
        for case in cases:

            def advance(contestant: str, label: str = f"{case.operation}: {case.name}") -> None:
                bar.set_description(f"{label}: {contestant}", refresh=False)
                bar.update()

            add(record, run, measure(case, settings, bandwidth, advance))
            if path is not None:
                write_json(path, record)  # after each case: what was measured stays, whatever comes
    print(flat({**record, "cases": [case for case in record["cases"] if case["run"] == run["created"]]}))
    if path is not None:
        print(f"written to {path}")


if __name__ == "__main__":
    typer.run(main)
