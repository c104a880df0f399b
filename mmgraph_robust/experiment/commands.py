"""Single steps of a run, for the command line."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks import Attack, ThreatModel
from mmgraph_robust.data import DataWarning, modalities
from mmgraph_robust.data.schema import ITEM, USER
from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, unknown_name
from mmgraph_robust.evaluation import Evaluator, embed, evaluate
from mmgraph_robust.experiment.build import build, check_device, finish
from mmgraph_robust.experiment.component import find_component
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.experiment.estimate import duration, total
from mmgraph_robust.experiment.files import apply_overrides
from mmgraph_robust.experiment.plan import dry_run
from mmgraph_robust.experiment.plans import read_goal
from mmgraph_robust.experiment.schema import check_arguments
from mmgraph_robust.experiment.suite import FOLDER, Suite
from mmgraph_robust.models import Recommender
from mmgraph_robust.reporting import check_entry
from mmgraph_robust.training import fit, load_model, save_model, trained_on
from mmgraph_robust.typing import Split
from mmgraph_robust.utils import check_out, read_json

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Attacked:
    """Metrics of a model before and after an attack.

    Attributes:
        clean: On the clean data.
        attacked: On the attacked data.
        data: The attacked data.
        flags: What a reader must know, by name.
    """

    clean: dict[str, float]
    attacked: dict[str, float]
    data: HeteroData
    flags: dict[str, str]


def load_data(source: str, arguments: dict[str, Any] | None = None) -> HeteroData:
    """Reads a folder in MMRec's layout, or makes the ``synthetic`` data set."""
    data = {"format": "synthetic"} if source == "synthetic" else {"format": "mmrec", "folder": source}
    settings = {"name": "data", "data": data | (arguments or {}), "models": [{"name": "LightGCN"}]}
    return RunConfig(settings).read_data()


def train_one(
    source: str, model: str, defense: str, seed: int, out: Path, overrides: Sequence[str], device: str
) -> dict[str, float]:
    """Trains and saves one model.

    Args:
        source: See :func:`load_data`.
        model: Name of the model.
        defense: Name of the defense, or ``"none"``.
        seed: Seed.
        out: File of the trained model.
        overrides: ``key=value`` pairs under ``model``, ``defense``, ``training`` and ``data``.
        device: Where to compute.

    Returns:
        The metrics on the test split.

    Raises:
        MMGraphError: If something does not fit: before anything is trained.
    """
    check_out(out, "file")
    sections = _sections(overrides, ("model", "defense", "training", "data"))
    for section in ("model", "defense"):
        if "name" in sections[section]:
            raise ConfigError(
                f"--set {section}.name: the name is given by --{section} (got {sections[section]['name']!r})"
            )
    data = load_data(source, sections["data"])
    # An empty test split is said before training, not after.
    evaluator = Evaluator(data, "test")
    settings = {
        "name": "train",
        "seeds": [seed],
        "data": {"format": "synthetic"},
        "models": [{"name": model, **sections["model"]}],
        "defenses": [{"name": defense, **sections["defense"]}],
        "training": sections["training"],
    }
    if sections["defense"].get("sensitive") == "auto":
        raise ConfigError(
            "defense.sensitive = 'auto' asks an undefended model of the same run ('mmgraph run'): name a modality "
            f"({', '.join(modalities(data))}), or 'all'"
        )
    try:
        config = RunConfig(settings)
    except ConfigError as error:
        # As the keys are called here.
        text = str(error).replace(f"models.{model}", "model").replace(f"defenses.{defense}", "defense")
        raise ConfigError(text) from None
    check_device(device)
    training = config.training | config.models[0].training | config.defenses[0].training
    victim, plugged = build(config.models[0], config.defenses[0], data, seed)
    checkpoint = out.with_name(f"{out.name}.checkpoint.pt")
    victim = victim.to(device)
    fit(victim, data, plugged, seed=seed, checkpoint=checkpoint, **training)
    victim = finish(victim, config.defenses[0], data, seed)
    save_model(victim, out, data)
    checkpoint.unlink(missing_ok=True)
    return evaluator(embed(victim, data))


def evaluate_one(
    path: Path,
    source: str,
    split: str,
    k: Sequence[int],
    mask_validation: bool,
    overrides: Sequence[str] = (),
    device: str = "cpu",
) -> dict[str, float]:
    """Metrics of a saved model on one split.

    Args:
        path: The saved model.
        source: See :func:`load_data`.
        split: The split.
        k: Cut-offs.
        mask_validation: Whether validation items are left out when testing.
        overrides: ``key=value`` pairs under ``data``.
        device: Where to compute.
    """
    if split not in _SPLITS:
        raise ConfigError(unknown_name("split", split, _SPLITS))
    model, data = _open(path, source, _sections(overrides, ("data",))["data"], device)
    return evaluate(model, data, cast(Split, split), k, mask_validation=mask_validation)


def attack_one(
    path: Path,
    source: str,
    name: str,
    chosen: Sequence[str] | None,
    budget: float,
    scope: str,
    seed: int,
    overrides: Sequence[str],
    out: Path | None,
    device: str = "cpu",
) -> Attacked:
    """Attacks a saved model.

    Args:
        path: The saved model.
        source: See :func:`load_data`.
        name: Name of the attack.
        chosen: The attacked modalities (default: all that the model reads).
        budget: Size of the change.
        scope: Whose norm it binds.
        seed: Seed of the attack.
        overrides: ``key=value`` pairs under ``attack``, ``threat`` and ``data``.
        out: Folder where the attacked data are to be written, if anywhere.
        device: Where to compute.

    Raises:
        MMGraphError: If something does not fit: before anything is attacked.
    """
    sections = _sections(overrides, ("attack", "threat", "data"))
    kind = find_component("attacks", name)
    attack: Attack = kind(**check_arguments(kind, sections["attack"], f"attack.{name}"))
    if out is not None:
        if out.resolve() == Path(source).resolve():
            raise ConfigError(f"--out {out} is the folder of the clean data: choose another")
        check_out(out, "folder")
    model, data = _open(path, source, sections["data"], device)
    names = list(chosen or model.modalities or modalities(data))
    values: dict[str, Any] = {"modalities": names, "budget": budget, "scope": scope}
    values |= sections["threat"]
    goal, own = read_goal(values.pop("goal", {}), data, seed)
    checked = check_arguments(ThreatModel, {"items": own} | values, "threat", skip=("goal",))
    # An empty test split is said before the attack, not after.
    clean = evaluate(model, data)
    result = attack(model, data, ThreatModel(**checked, goal=goal), seed=seed, progress=True)
    attacked = evaluate(model, result.data)
    return Attacked(clean | result.before, attacked | result.after, result.data, result.flags)


def _open(path: Path, source: str, arguments: dict[str, Any], device: str) -> tuple[Recommender, HeteroData]:
    check_device(device)
    model, data = load_model(path).to(device), load_data(source, arguments)
    sizes = (int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    if sizes != (model.num_users, model.num_items):
        raise DataError(
            f"{path} was trained on {model.num_users} users and {model.num_items} items, but {source} has "
            f"{sizes[0]} and {sizes[1]}: give the data that it was trained on, with the same --set data.KEY=VALUE"
        )
    if not trained_on(path, data):
        warnings.warn(
            f"{path} was trained on other interactions than those of {source}: ids may mean something else, and what "
            "is to be found may have been trained on", DataWarning, stacklevel=2
        )  # fmt: skip
    return model, data


def _sections(overrides: Sequence[str], known: Sequence[str]) -> dict[str, dict[str, Any]]:
    values: dict[str, Any] = apply_overrides({name: {} for name in known}, overrides)
    for name, section in values.items():
        if name not in known:
            raise ConfigError(f"--set: {unknown_name('section', name, known)}")
        if not isinstance(section, dict):
            raise ConfigError(f"--set {name}: expects keys, as in {name}.KEY=VALUE (got {section!r})")
    return values


def plan_table(suite: Suite, folder: Path, jobs: int) -> list[str]:
    """What a suite consists of, what is left of it and how long that will take, as lines to print.

    Args:
        suite: The suite.
        folder: Its run folder.
        jobs: Number of processes.
    """
    rows: dict[tuple[str, str, str], list[Any]] = {}
    everything: list[float | None] = []
    for unit, cells, expected in dry_run(suite, folder, _earlier(FOLDER.parent / "results")):
        row = rows.setdefault((unit.dataset, unit.model.label, unit.defense.label), [[], 0, []])
        row[0].append(unit.seed)
        row[1] += cells
        row[2] += expected
        everything += expected
    width = max(len(" ".join(key)) for key in rows)
    lines = [
        f"{' '.join(key):{width}}  seeds {','.join(map(str, seeds))}  {cells} cells, {len(left)} to do"
        + (f", {total(left)}" if left else "")
        for key, (seeds, cells, left) in rows.items()
    ]
    cells = sum(row[1] for row in rows.values())
    lines.append(f"{suite.name}: {cells} cells, {len(everything)} to do")
    if everything:
        alone = total(everything)
        known = sum(s for s in everything if s is not None)
        share = f"; with {jobs} processes {duration(known / jobs)} or more" if jobs > 1 and known else ""
        lines.append(f"expected time, from what earlier cells took: {alone} in one process{share}")
    return lines


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """Result entries of the repository, where the command runs in it: they tell how long things take."""
    entries = []
    for path in sorted(folder.rglob("*.json")):
        try:
            entry = read_json(path)
            check_entry(entry)
        except CheckpointError:
            continue
        entries.append(entry)
    return entries
