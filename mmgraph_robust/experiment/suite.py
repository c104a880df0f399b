"""A suite: the same models, defenses and attacks on several data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.component import check_label
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.files import apply_overrides, read_values
from mmgraph_robust.experiment.schema import Strict, parse

FOLDER = Path("benchmarks") / "suites"


class _SuiteFile(Strict):
    name: str
    about: dict[str, str] = {}
    data: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: list[int] = [0]
    training: dict[str, Any] = {}
    models: list[dict[str, Any]]
    defenses: list[dict[str, Any]] = [{"name": "none"}]
    attacks: list[dict[str, Any]] | None = None
    evaluation: dict[str, Any] = {}


class Suite:
    """A run on each of several data sets.

    A file is that of a run (:class:`~mmgraph_robust.experiment.RunConfig`) with a table of data sets by name in the
    place of the one; ``on.NAME`` in an entry of ``models`` or ``defenses`` holds what differs on that data set, and
    ``about`` what a reader should know, by term.

    Args:
        values: The content of a suite file.

    Attributes:
        name: Name of the suite.
        about: What a reader should know, by term.
        runs: The run on each data set.

    Raises:
        ConfigError: If a key is unknown or a value does not fit.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        file = parse(_SuiteFile, values, "")
        self.name, self.about = check_label(file.name, "name"), file.about
        self.runs = {name: self._run(file, name) for name in file.data}

    def _run(self, file: _SuiteFile, name: str) -> RunConfig:
        shared = file.model_dump(exclude={"about", "name", "data", "models", "defenses"}, exclude_none=True)
        parts = {kind: [_on(kind, e, name, file.data) for e in getattr(file, kind)] for kind in ("models", "defenses")}
        try:
            return RunConfig({"name": name, "data": file.data[name], **shared, **parts})
        except ConfigError as error:
            raise type(error)(f"on {name}: {error}") from None

    def describe(self) -> dict[str, Any]:
        """The whole suite with all defaults, as plain JSON values."""
        runs = {name: config.describe() for name, config in self.runs.items()}
        return {"name": self.name, "about": self.about, "runs": runs}


def read_suite(source: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite.

    Args:
        source: A ``.toml`` or ``.json`` file, or the name of one in ``benchmarks/suites``.
        overrides: ``key=value`` pairs such as ``training.max_epochs=3``.

    Raises:
        ConfigError: If there is no such suite, or anything in it or in `overrides` does not fit.
    """
    path = Path(source)
    if not path.suffix:
        path = FOLDER / f"{source}.toml"
        if not path.exists():
            known = sorted(p.stem for p in FOLDER.glob("*.toml"))
            raise ConfigError(
                f"{unknown_name('suite', source, known)} in {FOLDER} below here; or give the path of a .toml file"
            )
    try:
        return Suite(apply_overrides(read_values(path), overrides))
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


def _on(kind: str, entry: dict[str, Any], dataset: str, known: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(entry)
    each = own.pop("on", {})
    for name in each if isinstance(each, dict) else ():
        if name not in known:
            raise ConfigError(f"{kind}.{own.get('name')}.on: {unknown_name('data set', name, known)}")
    if not isinstance(each, dict) or not all(isinstance(part, dict) for part in each.values()):
        raise ConfigError(f"{kind}.{own.get('name')}.on: expects a table for each data set (got {each!r})")
    differs = each.get(dataset, {})
    if "training" in own and "training" in differs:
        differs = differs | {"training": own["training"] | differs["training"]}
    return own | differs
