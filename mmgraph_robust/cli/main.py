"""The `mmgraph` command."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from mmgraph_robust.errors import MMGraphError
from mmgraph_robust.utils import Terminated, keep_freed_memory

app = typer.Typer(
    help="Multi-modal graph recommendation: train, attack, defend and measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Option("--out", "-o", help="Run folder.")]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key; repeatable.")]
Jobs = Annotated[int, typer.Option(help="Number of processes.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads per process.")]
Device = Annotated[str, typer.Option(help="Where to compute, e.g. cpu or cuda.")]
Data = Annotated[str, typer.Argument(help="Folder in MMRec's layout, or 'synthetic'.")]
ModelFile = Annotated[Path, typer.Argument(help="A model written by 'mmgraph train' or 'mmgraph run'.")]


def _clear_errors(function: Callable[..., None]) -> Callable[..., None]:
    """One line for what a user can mend; a traceback for what only we can."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        _set_up()
        try:
            function(*args, **kwargs)
        except (MMGraphError, OSError) as error:
            Console(stderr=True).print(Text(f"{type(error).__name__}: {error}"), soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            again = function.__name__ in ("demo", "run", "bench", "train", "tune")
            Console(stderr=True).print("interrupted" + ("; the same command goes on from here" if again else ""))
            raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None

    return wrapped


def _set_up() -> None:
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[
        RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False)
    ])  # fmt: skip
    # A run checks its data in every cell; the reader needs each note once.
    told: set[str] = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            logging.getLogger("mmgraph").warning("note: %s", message)

    warnings.showwarning = tell


@app.command()
@_clear_errors
def demo(out: Folder = Path("runs/demo"), overrides: Set = None) -> None:
    """Trains, attacks and defends on a made-up shop, and opens with one table."""
    from mmgraph_robust.experiment import read_config

    config = read_config(Path(str(files("mmgraph_robust.experiment") / "demo.toml")), overrides or [])
    _run(config, out, 1, None, "cpu")


@app.command()
@_clear_errors
def run(
    config: Annotated[Path, typer.Argument(help="A TOML (or JSON) file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (default: runs/NAME).")] = None,
    overrides: Set = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    device: Device = "cpu",
) -> None:
    """Trains, attacks and reports for the models and defenses that a file names. Run again, it goes on."""
    from mmgraph_robust.experiment import read_config

    settings = read_config(config, overrides or [])
    _run(settings, out or Path("runs") / settings.name, jobs, threads, device)


@app.command()
@_clear_errors
def bench(
    suite: Annotated[str, typer.Argument(help="Name of a suite in benchmarks/suites, or a .toml file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (default: runs/NAME).")] = None,
    overrides: Set = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    device: Device = "cpu",
    cluster: Annotated[str | None, typer.Option(help="Address of a Dask scheduler that does the work.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Show the cells and the expected time; run nothing.")] = False,
) -> None:
    """Compares models and defenses under attack on several data sets. Run again, or beside itself, it goes on."""
    from mmgraph_robust.experiment import read_suite
    from mmgraph_robust.experiment.commands import plan_table

    settings = read_suite(suite, overrides or [])
    folder = out or Path("runs") / settings.name
    if dry:
        for line in plan_table(settings, folder, jobs):
            print(line)
        return
    _run(settings, folder, jobs, threads, device, cluster)


@app.command()
@_clear_errors
def train(
    data: Data,
    model: Annotated[str, typer.Option(help="Name of the model.")] = "GRCN",
    defense: Annotated[str, typer.Option(help="Name of the defense.")] = "none",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the trained model.")] = Path("model.safetensors"),
    overrides: Set = None,
    device: Device = "cpu",
) -> None:
    """Trains one model; --set takes model.*, defense.*, training.* and data.*"""
    from mmgraph_robust.experiment.commands import train_one

    metrics = train_one(data, model, defense, seed, out, overrides or [], device)
    _print_metrics(f"{model} ({defense}), test split", metrics)
    print(f"model: {out}")


@app.command()
@_clear_errors
def evaluate(
    model: ModelFile,
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    k: Annotated[list[int] | None, typer.Option(help="Cut-off; repeatable.")] = None,
    mask_validation: Annotated[bool, typer.Option(help="Leave validation items out when testing.")] = False,
    overrides: Set = None,
    device: Device = "cpu",
) -> None:
    """Ranking quality of a trained model; --set takes data.*, as it was trained with"""
    from mmgraph_robust.experiment.commands import evaluate_one

    metrics = evaluate_one(model, data, split, k or [10, 20], mask_validation, overrides or [], device)
    _print_metrics(f"{model}, {split} split", metrics)


@app.command()
@_clear_errors
def attack(
    model: ModelFile,
    data: Data,
    name: Annotated[str, typer.Option("--attack", help="Name of the attack: PGD, APGD, Suite, ...")] = "PGD",
    modality: Annotated[
        list[str] | None, typer.Option(help="Attacked modality; repeatable (default: all that the model reads).")
    ] = None,
    budget: Annotated[float, typer.Option(help="Size of the change relative to the features.")] = 0.05,
    scope: Annotated[str, typer.Option(help="item or matrix.")] = "item",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    overrides: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the attacked data here (MMRec layout).")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Attacks a trained model; --set takes attack.*, threat.* and data.*"""
    from mmgraph_robust.data import write_mmrec
    from mmgraph_robust.experiment.commands import attack_one

    result = attack_one(model, data, name, modality, budget, scope, seed, overrides or [], out, device)
    _print_metrics(f"{name} on {model}", result.clean, result.attacked)
    for flag, text in result.flags.items():
        print(f"{flag}: {text}")
    if out is not None:
        write_mmrec(result.data, out)
        print(f"attacked data: {out}")


@app.command()
@_clear_errors
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    keep: Annotated[
        Path | None, typer.Option(help="Keep the results in this folder, a file per training, without models.")
    ] = None,
) -> None:
    """Writes the tables, pictures and page of a run folder anew."""
    from mmgraph_robust.experiment.report import keep as keep_in
    from mmgraph_robust.experiment.report import report as write

    if keep is None:
        _show(folder, write(folder))
    else:
        _show(keep, keep_in(folder, keep))


@app.command()
@_clear_errors
def compare(
    first: Annotated[str, typer.Argument(help="A result file, a run folder, or COMMIT:PATH in this repository.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    metric: Annotated[str, typer.Option(help="What is compared.")] = "recall@20",
) -> None:
    """Says what differs between two sets of results, and whether it is noise."""
    from mmgraph_robust.reporting import compare as compare_results
    from mmgraph_robust.reporting import print_table

    found = compare_results(first, second, metric)
    for sentence in found.sentences:
        print(sentence)
    for table in (found.brief, *found.circumstances):
        if table.rows:
            print_table(table)


@app.command()
@_clear_errors
def tune(
    config: Annotated[Path, typer.Argument(help="The study: a TOML (or JSON) file.")],
    workers: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    trials: Annotated[int | None, typer.Option(help="Trials of the whole study (default: the file's).")] = None,
    storage: Annotated[
        str | None, typer.Option(help="PATH.db, PATH.journal or postgresql://... (default: in the study's folder).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (default: runs/NAME).")] = None,
    overrides: Set = None,
    threads: Threads = None,
    device: Device = "cpu",
    show: Annotated[bool, typer.Option("--show", help="Show what is there; run nothing.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Test the chosen trials on the test split, once.")] = False,
    test_again: Annotated[bool, typer.Option("--test-again", help="Read the test split once more.")] = False,
) -> None:
    """Searches what a file says, on one process or many. Run again, or elsewhere on the same storage, it goes on."""
    from mmgraph_robust.tuning import commands

    budget = [] if trials is None else [f"study.trials={trials}"]
    study = commands.Command(config, [*(overrides or []), *budget], out, storage, workers, threads, device)
    if test or test_again:
        study.test(test_again, progress=sys.stderr.isatty())
    elif not show:
        study.run()
    for line in study.show():
        print(line)


def _run(config: Any, folder: Path, jobs: int, threads: int | None, device: str, cluster: str | None = None) -> None:
    from mmgraph_robust.experiment import run as run_config

    progress = sys.stderr.isatty()
    entries = run_config(config, folder, jobs=jobs, threads=threads, device=device, cluster=cluster, progress=progress)
    _show(folder, entries)


def _show(folder: Path, entries: list[dict[str, Any]]) -> None:
    from mmgraph_robust.experiment.report import ReportPlan, read_published
    from mmgraph_robust.reporting import headline, print_table, sentences

    plan = ReportPlan.read(folder)
    metric = plan.metric
    print_table(headline(entries, metric))
    if published := read_published(entries, plan):
        print_table(published)
    for sentence in sentences(entries, metric):
        print(sentence)
    print(f"\nThe whole report, with pictures: {folder / 'report.html'}")


def _print_metrics(title: str, metrics: dict[str, float], attacked: dict[str, float] | None = None) -> None:
    from rich.table import Table

    table = Table(title=Text(title))
    table.add_column("metric")
    table.add_column("clean" if attacked else "value", justify="right")
    if attacked:
        table.add_column("attacked", justify="right")
        table.add_column("change", justify="right")
    for name, value in metrics.items():
        cells = [name, f"{value:.4f}"]
        if attacked:
            change = f"{100 * (attacked[name] - value) / value:+.1f} %" if value else ""
            cells += [f"{attacked[name]:.4f}", change]
        table.add_row(*cells)
    Console().print(table)
