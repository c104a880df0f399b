"""What the programs of several benchmarks ask for, in the same words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from mmgraph_robust.data import DataWarning
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.utils import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".." / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results"

Data = Annotated[str, typer.Argument(help="The data set, as spaces.toml names it.")]
Model = Annotated[str, typer.Argument(help="The backbone, as spaces.toml names it.")]
Backbones = Annotated[str, typer.Option(help="Backbones, separated by commas; all by default.")]
Defenses = Annotated[str, typer.Option(help="Defenses, separated by semicolons; all by default.")]
Threads = Annotated[int, typer.Option(help="Threads; 0 takes torch's default.", min=0)]


def _there(device: str) -> str:
    """A wrong device is told as any wrong option is."""
    try:
        check_device(device)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    return device


Device = Annotated[str, typer.Option(help="Where to compute, e.g. cpu or cuda.", callback=_there)]
Folder = Annotated[Path, typer.Option(help="Where the data sets lie.")]
Work = Annotated[Path, typer.Option(help="Trained models and what a killed run goes on from.")]
Out = Annotated[Path, typer.Option(help="Where the results go.")]
Added = Annotated[Path, typer.Option(help="Where the result goes; what lies there is added to.")]
Progress = Annotated[bool, typer.Option(help="Whether bars are shown.")]


def listed(text: str, separator: str = ",") -> list[str]:
    """The names in an option that holds several."""
    return [name.strip() for name in text.split(separator) if name.strip()]


def file_name(*labels: str) -> str:
    """The labels as a file's name, without its ending."""
    return "-".join(re.sub("[^A-Za-z0-9]+", "-", label) for label in labels)


@contextmanager
def measuring(threads: int) -> Iterator[None]:
    """Sets the process up for a long measurement, as the command line does; the data's peculiarities are not told."""
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield
