"""Tables, pictures and the page of a run folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import (
    Comparison,
    Table,
    comparisons,
    full,
    leaderboard,
    paired_tests,
    published_table,
    rank_table,
    read_entries,
    read_tests,
    save_figures,
    shown_comparisons,
    to_csv,
    to_latex,
    to_markdown,
    write_page,
    write_tests,
)
from mmgraph_robust.reporting.entries import add_attacks, identity_of
from mmgraph_robust.reporting.sources import PLAN, planned_files
from mmgraph_robust.utils import hash_json, read_json, write_json, write_text

_TESTS = "tests.json"


@dataclass(frozen=True)
class ReportPlan:
    """What a report shows; kept as ``plan.json`` beside the entries.

    Attributes:
        name: Name of the run or suite.
        metric: The metric of tables and pictures.
        about: What a reader should know, by term.
        files: The names of the files of all cells that it asks for; None for all that there are.
        published: Published numbers to be shown beside.
    """

    name: str
    metric: str
    about: Mapping[str, str]
    files: Collection[str] | None
    published: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Keeps it in a run folder."""
        plan = asdict(self) | {"files": None if self.files is None else sorted(self.files)}
        write_json(folder / PLAN, plan)

    @classmethod
    def read(cls, folder: Path) -> ReportPlan:
        """What a run folder was made for; one of an earlier version has its configuration only."""
        if (folder / PLAN).exists():
            plan = read_json(folder / PLAN)
            return cls(plan["name"], plan["metric"], plan["about"], planned_files(folder), plan.get("published"))
        config = read_json(folder / "config.json")
        return cls(config["name"], config["evaluation"]["metric"], {}, None, config.get("published"))


def report(
    folder: str | Path, plan: ReportPlan | None = None, entries: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Writes tables, pictures and the page of a run folder from its result entries.

    Args:
        folder: The run folder.
        plan: What it shows (default: what the folder was made for).
        entries: The result entries (default: those of the folder that the plan asks for).

    Returns:
        The result entries.

    Raises:
        ConfigError: If there are none.
    """
    folder = Path(folder)
    plan = ReportPlan.read(folder) if plan is None else plan
    there = folder / "entries"
    if entries is None:
        entries = read_entries(there, plan.files) if there.is_dir() else []
    if not entries:
        raise ConfigError(f"{there} holds no result entries: run something first")
    _write(folder, plan, entries, shown_comparisons(entries, plan.metric, read_tests(folder / _TESTS)))
    return entries


def _write(folder: Path, plan: ReportPlan, entries: list[dict[str, Any]], compared: Sequence[Comparison]) -> None:
    board, numbers = leaderboard(entries, plan.metric, compared=compared), full(entries, plan.metric)
    published = read_published(entries, plan)
    tables = [board, rank_table(entries, plan.metric), numbers, *([published] if published else [])]
    write_text(folder / "table.md", "\n\n".join(to_markdown(table) for table in tables) + "\n")
    write_text(folder / "table.tex", "\n".join(to_latex(table) for table in tables[:2]))
    write_text(folder / "table.csv", to_csv(numbers))
    save_figures(entries, folder, plan.metric)
    title = f"Robustness report: {plan.name}"
    write_page(entries, folder / "report.html", title=title, metric=plan.metric, about=plan.about, compared=compared)


def keep(folder: str | Path, target: str | Path) -> list[dict[str, Any]]:
    """Writes the results of a run folder into another one, a file for each training with all attacks on its model,
    and their report: what is worth committing, without models.

    Values per user stay behind: they are made from rows of the data, which may not be one's own to pass on. What tests
    over users showed is kept. What the target holds of other trainings, or of other attacks on the same trained model,
    stays and is shown beside.

    Args:
        folder: The run folder.
        target: The folder to keep them in.

    Returns:
        The result entries of the target.

    Raises:
        ConfigError: If the target is the run folder itself.
    """
    folder, target = Path(folder), Path(target)
    if folder.resolve() == target.resolve():
        raise ConfigError(
            f"'keep' expects another folder than that of the run (got {folder} and {target}): choose a new one, or "
            "make the report without keeping"
        )
    plan = ReportPlan.read(folder)
    known = {}
    for entry in read_entries(folder / "entries", plan.files):
        identity = identity_of(entry)
        path = target / "entries" / f"{'-'.join(map(str, identity))}.json"
        if path.exists() and identity_of(read_json(path)) != identity:
            # Hyphens in labels: another training has that name.
            path = path.with_name(f"{path.stem}-{hash_json(list(identity))[:8]}.json")
        known[identity] = add_attacks(entry, read_json(path)) if path.exists() else entry
        write_json(path, without_users(known[identity]))
    kept = replace(plan, files=None)
    kept.write(target)
    entries = [known.get(identity_of(entry), entry) for entry in read_entries(target / "entries")]
    # Under all attacks: which of them tables show depends on what else is kept here.
    tests = read_tests(folder / _TESTS) | read_tests(target / _TESTS)
    compared = comparisons(entries, kept.metric, known=tests)
    write_tests(target / _TESTS, tests | paired_tests(compared))
    _write(target, kept, entries, compared)
    return entries


def without_users(entry: dict[str, Any]) -> dict[str, Any]:
    """A result entry without its values per user.

    Args:
        entry: The entry.
    """

    def stripped(part: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in part.items() if name != "per_user"}

    return entry | {"clean": stripped(entry["clean"]), "attacks": [stripped(a) for a in entry["attacks"]]}


def read_published(entries: Sequence[dict[str, Any]], plan: ReportPlan) -> Table | None:
    """Measured results beside the published ones that a plan names, where it does.

    Args:
        entries: The result entries.
        plan: The plan.
    """
    # A folder may keep other data sets beside, and the numbers are for one.
    own = [entry for entry in entries if entry["dataset"] == plan.name]
    return None if plan.published is None else published_table(own, plan.published)
