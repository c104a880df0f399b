"""Turns the measurements into ``docs/speed.md`` and into the order in which engines are chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import options
from benchmarks.speed.cases import TITLES
from benchmarks.speed.records import RESULTS, Record
from mmgraph_robust.sparse import ENGINES
from mmgraph_robust.utils import read_json, write_json, write_text

COLUMNS = ("forward, ms", "backward, ms", "ratio to ours", "memory, MB", "compulsory traffic", "gather traffic")
HEADER = """# Speed

Each operation against other ways to compute the same, on the same inputs, in turns within one process.
Written by `python -m benchmarks.speed.table` from the files in `benchmarks/results/speed/`; not to be edited.

How to read it:

- **ours** is this package, with the name of its engine where an operation has several; the first stands for the
  default. All contestants get edges sorted by row, the order that is kindest to all of them.
- **forward**, **backward**: medians in milliseconds after a warm-up. Backward is `torch.autograd.grad` from one
  fixed gradient to all inputs that a model would train; what is compiled once per graph is compiled before.
- **ratio to ours**: forward and backward together, divided by the default's: 5.0 took five times as long as ours.
- **memory**: the peak during one forward and backward pass, beside the inputs, measured in a process of its own.
- **compulsory traffic**, **gather traffic**: the share of the bound set by memory bandwidth that was reached, forward /
  backward. The bound is the time in which the measured copy bandwidth moves the bytes: *compulsory* counts row
  pointers, columns, values, every row of the input that has an edge and the result once each; *gather* counts a row of
  the input for every edge, as if none were ever met in a cache. The copy is far larger than any cache: graphs that fit
  into one may exceed 100 %.
- **wrong** or **failed** in place of a time: results or gradients differ from those of the first contestant that is not
  ours, or it cannot do the case. Nobody wrong is timed. *alone* marks what does only a part of the work, a yardstick.
- amazon-baby and amazon-sports are the training interactions of the public 5-core data sets; power-law has 200,000
  users, 60,000 items and 2,000,000 interactions. Features are random, at the published widths where widths matter.
- **load** is the system's load average when a run began: far above 0, others computed beside it. Contestants of a case
  take turns, so that ratios suffer less than times.

A result of more than 32 MB (power-law, users x items: 51 MB) is fresh memory in every pass, which the system clears
page by page, for all contestants alike. `THP_MEM_ALLOC_ENABLE=1` in the environment makes torch ask for large pages.

To add a column for your machine, run `python -m benchmarks.speed` or, on a GPU,
`python -m benchmarks.speed --device cuda`, then `python -m benchmarks.speed.table`. `--only spmm,segment` measures a
part, in the place of what was measured of it before, and `--named power-law` a part of that; `--million faiss` adds a
million rows to `knn`.

On CUDA the default of the products is cuSPARSE, by torch's CSR tensors; in torch's deterministic mode
(`torch.use_deterministic_algorithms(True)`) engines whose sums do not repeat bit by bit are passed over, and refused
where they are asked for by name. On graphs as small as Amazon's a GPU waits for the next kernel and not for its memory:
there a ratio says who launches fewer, and power-law tells more. There is no engine in Triton.
"""


def render(records: Sequence[Record]) -> str:
    """The page: the devices, then a table per operation."""
    parts = [HEADER, _devices(records)]
    for operation, title in TITLES.items():
        if any(case["operation"] == operation for record in records for case in record["cases"]):
            parts.append(f"## {title}\n\n{_table(records, operation)}")
    return "\n".join(parts)


def flat(record: Record) -> str:
    """Everything measured on one device as a single table."""
    rows = [
        [case["operation"], case["case"], result["contestant"], *_cells(case, result)]
        for operation in TITLES
        for case in record["cases"]
        if case["operation"] == operation
        for result in _ordered(case)
    ]
    return _markdown(["operation", "case", "contestant", *COLUMNS], rows, left=3)


def order_engines(records: Sequence[Record], table: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    """Engines per device type and operation, fastest first by the geometric mean of their forward times over all cases.

    Engines that were never measured there come last, in the order of `table`; one that was found wrong or failed is
    left out. Smoke runs count for nothing.
    """
    records = [record for record in records if not record["smoke"]]
    result = {}
    for device in [*table, *sorted({record["type"] for record in records} - set(table))]:
        slowness: dict[str, dict[str, list[float]]] = {}
        for record in records:
            for case in record["cases"] if record["type"] == device else ():
                _rate(case, slowness)
        result[device] = {
            operation: _order(slowness.get(operation, {}), table.get(device, {}).get(operation, []), operation)
            for operation in ("matmul", "dot", "segment")
        }
    return result


def _rate(case: Record, slowness: dict[str, dict[str, list[float]]]) -> None:
    """Adds each engine's time in a case relative to the fastest's, in logarithms; infinity for wrong results."""
    entries = [result for result in case["results"] if result["engine"] is not None]
    seconds = {
        (entry["engine"]["operation"], entry["engine"]["name"]): (
            entry["forward"]["median"] if entry["status"] == "ok" else math.inf
        )
        for entry in entries
    }
    for (operation, name), own in seconds.items():
        best = min(other for (kind, _), other in seconds.items() if kind == operation)
        rate = math.log(own / best) if math.isfinite(own) else math.inf
        slowness.setdefault(operation, {}).setdefault(name, []).append(rate)


def _order(slowness: dict[str, list[float]], known: list[str], operation: str) -> list[str]:
    mean = {name: sum(rates) / len(rates) for name, rates in slowness.items()}
    measured = sorted((name for name in mean if math.isfinite(mean[name])), key=mean.__getitem__)
    others = dict.fromkeys([*known, *(name for name, engine in ENGINES.items() if operation in engine.operations)])
    return [*measured, *(name for name in others if name not in mean)]


def _devices(records: Sequence[Record]) -> str:
    lines = []
    for letter, record in zip(_letters(records), records, strict=True):
        runs = [record["runs"][created] for created in sorted(record["runs"])]
        name = f"**{letter}**: {record['device']}" if letter else record["device"]
        found = {package: number for run in runs for package, number in run["versions"].items()}
        versions = ", ".join(f"{package} {number}" for package, number in found.items())
        commits = "; ".join(f"commit {run['commit'][:10]}{run['commit'][40:]}, {_when(run)}" for run in runs)
        smoke = " **A smoke run on tiny made-up inputs, no measurement.**" if record["smoke"] else ""
        lines.append(f"- {name} ({runs[-1]['machine']}, {runs[-1]['cores']} cores); {versions}; {commits}.{smoke}")
    return "\n".join([*lines, ""])


def _when(run: Record) -> str:
    load = "" if run["load"] is None else f" at a load of {run['load']:.1f}"
    return f"{run['created'][:10]}{load}, copies at {run['copy_bandwidth'] / 1e9:.0f} GB/s"


def _table(records: Sequence[Record], operation: str) -> str:
    found: list[dict[tuple[str, str], list[str]]] = []
    for record in records:
        cases = [case for case in record["cases"] if case["operation"] == operation]
        found.append({(c["case"], r["contestant"]): _cells(c, r) for c in cases for r in _ordered(c)})
    names = list(dict.fromkeys(name for cells in found for name in cells))
    cases = list(dict.fromkeys(case for case, _ in names))
    rows = [
        [*name, *(cell for cells in found for cell in cells.get(name, [""] * len(COLUMNS)))]
        for name in sorted(names, key=lambda name: cases.index(name[0]))
    ]
    prefixes = [f"{letter}: " if letter else "" for letter in _letters(records)]
    return _markdown(["case", "contestant", *(p + column for p in prefixes for column in COLUMNS)], rows, left=2)


def _letters(records: Sequence[Record]) -> list[str]:
    return [""] if len(records) == 1 else [chr(ord("A") + i) for i in range(len(records))]


def _ordered(case: Record) -> list[Record]:
    ranks = {"ours": 0, "engine": 1, "bound": 2, "reference": 3}
    return sorted(case["results"], key=lambda result: ranks[result["role"]])


def _cells(case: Record, result: Record) -> list[str]:
    if result["status"] != "ok":
        return [result["status"], *[""] * (len(COLUMNS) - 1)]
    base = next((other for other in case["results"] if other["role"] == "ours" and other["status"] == "ok"), None)
    memory, share = result["memory"], result["share_of_bandwidth"]
    return [
        _number(1e3 * result["forward"]["median"]),
        _number(1e3 * result["backward"]["median"]) if result["backward"] else "",
        _number(_total(result) / _total(base)) if base else "",
        _number(memory["added"] / 1e6) if memory else "",
        *(" / ".join(f"{100 * way[kind]:.0f} %" for way in share.values()) for kind in ("compulsory", "gather")),
    ]


def _total(result: Record) -> float:
    return float(sum(result[way]["median"] for way in ("forward", "backward") if result[way]))


def _number(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def _markdown(head: list[str], rows: list[list[str]], left: int) -> str:
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)) + "\n"


def main(
    results: Annotated[Path, typer.Option(help="The folder of measurements.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="The page to write.")] = options.ROOT / "docs" / "speed.md",
    engines: Annotated[Path, typer.Option(help="The order of engines to rewrite.")] = (
        options.ROOT / "mmgraph_robust" / "sparse" / "engines.json"
    ),
) -> None:
    """Writes the page of tables, and the order of engines, from all measurements in a folder."""
    records: list[Any] = [read_json(path) for path in sorted(results.glob("*.json"))]
    if not records:
        raise typer.BadParameter(f"no measurements in {results}: run python -m benchmarks.speed first")
    write_text(page, render(records))
    write_json(engines, order_engines(records, read_json(engines)))
    print(f"{page} and {engines} written from {len(records)} file(s)")


if __name__ == "__main__":
    typer.run(main)
