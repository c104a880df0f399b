"""Result entries: reading, checking, and summarising them over seeds."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeVar

from mmgraph_robust.attacks.checks import EXPLANATIONS
from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, unknown_name
from mmgraph_robust.utils import read_json

Entry = dict[str, Any]
Key = TypeVar("Key")

SCHEMA = 1
NO_DEFENSE = "none"
#: The attack that is no attack: random noise of the same size, the control of every claim.
CONTROL = "Noise"
FEATURE_PATHS = ("direct", "graph", "none")
NOT_ATTACKABLE = "cannot be attacked through features"


class ReportWarning(UserWarning):
    """A result file that was left out of a report."""


@dataclass(frozen=True)
class Setting:
    """What was done to the features: which attack, on what, how far.

    Args:
        attack: Name of the attack.
        modalities: The attacked modalities.
        scope: ``"item"`` (a budget for each item) or ``"matrix"`` (one for all items together).
        norm: Norm of the budget.
        budget: Size relative to the clean features; 0.05 is 5 %.
    """

    attack: str
    modalities: tuple[str, ...]
    scope: str
    norm: str
    budget: float

    @property
    def label(self) -> str:
        """For example ``PGD on visual at 5 % per item``."""
        return f"{self.short} {self.threat}"

    @property
    def short(self) -> str:
        """The label without what the budget binds, for example ``PGD on visual at 5 %``."""
        return f"{self.attack} on {'+'.join(self.modalities)} at {format_budget(self.budget)}"

    @property
    def threat(self) -> str:
        """Scope of the budget in words, with its norm where that is not the usual one."""
        words = {"item": "per item", "matrix": "of the whole matrix"}.get(self.scope, self.scope)
        return words if self.norm == "l2" else f"{words} ({self.norm})"

    @property
    def is_control(self) -> bool:
        """Whether this is random noise and no attack."""
        return self.attack.partition(" (")[0] == CONTROL

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorting key: single modalities first, then small budgets, the control after the attacks."""
        modalities = (len(self.modalities), self.modalities)
        return (*modalities, self.budget, self.is_control, self.attack, self.scope, self.norm)


@dataclass(frozen=True)
class Row:
    """One model with one defense under one setting, summarised over seeds.

    Args:
        dataset: Name of the data set.
        model: Name of the model.
        defense: Name of the defense, ``"none"`` without.
        attack: Name of the attack, `None` on clean features.
        modalities: The attacked modalities, empty on clean features.
        scope: Scope of the budget, `None` on clean features.
        norm: Norm of the budget, `None` on clean features.
        budget: Size of the change relative to the clean features, 0 on clean features.
        seeds: Number of seeds behind the numbers.
        mean: Mean of each metric over seeds.
        std: Sample standard deviation of each metric; `None` for one seed.
        decline: Mean over seeds of ``100 * (attacked - clean) / clean``, so a loss is negative; `None` where a clean
            value is zero, and on clean features.
        decline_std: Sample standard deviation of the decline over seeds.
        margins: Mean score margin of each channel.
        margins_std: Sample standard deviation of each margin.
        feature_path: How features reach the score: ``"direct"``, ``"graph"`` or ``"none"``.
        flags: What the evaluation said about the attack on any seed, by name.
    """

    dataset: str
    model: str
    defense: str
    attack: str | None
    modalities: tuple[str, ...]
    scope: str | None
    norm: str | None
    budget: float
    seeds: int
    mean: Mapping[str, float]
    std: Mapping[str, float | None]
    decline: Mapping[str, float | None]
    decline_std: Mapping[str, float | None]
    margins: Mapping[str, float]
    margins_std: Mapping[str, float | None]
    feature_path: str
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def doubts(self) -> dict[str, str]:
        """The flags that say that the numbers are not to be trusted as they stand."""
        return {name: text for name, text in self.flags.items() if name not in EXPLANATIONS}

    @property
    def line(self) -> tuple[str, str, str]:
        """Data set, model and defense."""
        return self.dataset, self.model, self.defense

    @property
    def setting(self) -> Setting | None:
        """The attack's setting; `None` on clean features."""
        if self.attack is None:
            return None
        return Setting(self.attack, self.modalities, str(self.scope), str(self.norm), self.budget)

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorting key: models without a feature path last, no defense first, clean before attacked."""
        setting = self.setting
        line = (self.dataset, self.feature_path == "none", self.model, *defense_order(self.defense))
        return (*line, setting is not None, () if setting is None else setting.order)


def defense_order(name: str) -> tuple[bool, str]:
    """Sorting key of a defense's name: no defense comes first."""
    return name != NO_DEFENSE, name


def format_budget(budget: float) -> str:
    """A relative budget in per cent: ``0.05`` becomes ``5 %``."""
    return f"{100 * budget:.3g} %"


# --- checking and reading ---------------------------------------------------------------------------------------------


def check_entry(entry: object) -> None:
    """Checks that `entry` is a result entry of the known schema.

    Args:
        entry: What was read from a file.

    Raises:
        CheckpointError: If it is not; the message lists everything that is missing or wrong.
    """
    if not isinstance(entry, dict):
        raise CheckpointError(f"a result entry expects a JSON object (got {type(entry).__name__})")
    if entry.get("schema") != SCHEMA:
        raise CheckpointError(f"a result entry expects 'schema': {SCHEMA} (got {entry.get('schema')!r})")
    problems = list(_problems(entry))
    if problems:
        raise CheckpointError("not a complete result entry: " + "; ".join(problems))


def _problems(entry: Entry) -> Iterable[str]:
    for key in ("dataset", "model", "defense"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            yield f"'{key}' expects a name (got {entry.get(key)!r})"
    if not isinstance(entry.get("seed"), int):
        yield f"'seed' expects an integer (got {entry.get('seed')!r})"
    if entry.get("feature_path") not in FEATURE_PATHS:
        yield f"'feature_path' expects one of {list(FEATURE_PATHS)} (got {entry.get('feature_path')!r})"
    if "config" not in entry:
        yield "'config' is missing"
    for key in ("provenance", "training", "clean"):
        if not isinstance(entry.get(key), dict):
            yield f"'{key}' expects an object (got {entry.get(key)!r})"
    if not isinstance(entry.get("sensitive"), (dict, type(None))):
        yield f"'sensitive' expects an object or null (got {entry['sensitive']!r})"
    training = entry.get("training")
    if isinstance(training, dict):
        yield from _training_problems(training)
    clean = entry.get("clean")
    if isinstance(clean, dict):
        yield from _measure_problems(clean, "clean")
    attacks = entry.get("attacks")
    if isinstance(attacks, list):
        yield from _attack_problems(attacks, clean if isinstance(clean, dict) else {})
    else:
        yield f"'attacks' expects a list (got {attacks!r})"
    # The library writes strict JSON, Python's reader accepts more.
    yield from (f"'{path}' is not a finite number" for path in _non_finite(entry, ""))


def _training_problems(training: Mapping[str, Any]) -> Iterable[str]:
    for key in ("epochs", "best_epoch", "seconds"):
        if key not in training or not (training[key] is None or _is_number(training[key])):
            yield f"'training.{key}' expects a number (got {training.get(key)!r})"
    best = best_validation(training)
    if best is not None and not _is_number(best):
        yield f"'training.best_validation' expects a number (got {best!r})"
    if not isinstance(training.get("monitor"), (str, type(None))):
        yield f"'training.monitor' expects a name (got {training['monitor']!r})"
    history = training.get("history")
    if not isinstance(history, list) or not all(isinstance(h, dict) and _is_number(h.get("epoch")) for h in history):
        yield "'training.history' expects a list of objects with an 'epoch'"


def _attack_problems(attacks: Sequence[Any], clean: Mapping[str, Any]) -> Iterable[str]:
    sound = True
    for index, attack in enumerate(attacks):
        where = f"attacks[{index}]"
        if not isinstance(attack, dict):
            yield f"'{where}' expects an object (got {attack!r})"
            sound = False
            continue
        for key in ("attack", "scope", "norm"):
            if not isinstance(attack.get(key), str) or not attack[key]:
                sound = False
                yield f"'{where}.{key}' expects a name (got {attack.get(key)!r})"
        modalities = attack.get("modalities")
        if not isinstance(modalities, list) or not modalities or not all(isinstance(m, str) for m in modalities):
            sound = False
            yield f"'{where}.modalities' expects a list of names (got {modalities!r})"
        if not _is_number(attack.get("budget")) or attack["budget"] < 0:
            sound = False
            yield f"'{where}.budget' expects a number >= 0 (got {attack.get('budget')!r})"
        yield from _measure_problems(attack, where)
        ours, theirs = attack.get("metrics"), clean.get("metrics")
        if isinstance(ours, dict) and isinstance(theirs, dict) and set(ours) != set(theirs):
            yield f"'{where}.metrics' expects the metrics of 'clean' (differ in {sorted(set(ours) ^ set(theirs))})"
    if sound:
        counts = Counter(setting.label for setting, _ in labelled_attacks(attacks))
        yield from (f"'attacks' holds '{label}' {count} times" for label, count in counts.items() if count > 1)


def _measure_problems(part: Mapping[str, Any], where: str) -> Iterable[str]:
    for key in ("metrics", "margins"):
        values = part.get(key)
        if not isinstance(values, dict) or not all(_is_number(v) for v in values.values()):
            yield f"'{where}.{key}' expects an object of numbers (got {values!r})"
        elif key == "metrics" and not values:
            yield f"'{where}.metrics' is empty"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _non_finite(value: object, path: str) -> Iterable[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _non_finite(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _non_finite(child, f"{path}[{index}]")


def labelled_attacks(attacks: Sequence[Entry]) -> list[tuple[Setting, Entry]]:
    """The attacks of an entry with their settings.

    Where one attack was run with different arguments or knowledge, its name gets what differs: ``PGD (steps=50)``.

    Args:
        attacks: The entry's attacks.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for attack in attacks:
        kinds.setdefault(attack["attack"], []).append(_arguments(attack))
    varying = {
        name: sorted({key for one in kind for key in one if any(other.get(key) != one[key] for other in kind)})
        for name, kind in kinds.items()
    }
    result = []
    for attack in attacks:
        arguments = _arguments(attack)
        variant = ", ".join(f"{key}={arguments.get(key)}" for key in varying[attack["attack"]])
        name = f"{attack['attack']} ({variant})" if variant else attack["attack"]
        # Which modality is named first says nothing, and must not make two rows of one.
        modalities = tuple(sorted(attack["modalities"]))
        result.append((Setting(name, modalities, attack["scope"], attack["norm"], float(attack["budget"])), attack))
    return result


def _arguments(attack: Entry) -> dict[str, Any]:
    keys = ("relative", "labels", "items", "graph", "goal", "box", "knowledge", "queries")
    threat = {key: attack[key] for key in keys if key in attack}
    for key in ("items", "goal"):
        threat[key] = _in_short(threat.get(key))
    return dict(attack.get("arguments") or {}) | threat


def _in_short(value: Any) -> Any:
    """Lists of ids take no room in a name: how many, and the first."""
    if isinstance(value, list):
        return f"{len(value)} from {value[0]}" if value else "none"
    if isinstance(value, dict):
        return " ".join(str(_in_short(part)) for part in value.values() if part is not None)
    return value


def best_validation(training: Mapping[str, Any]) -> Any:
    """The best validation value of a training run; ``best`` is its name in the training's own history."""
    return training.get("best_validation", training.get("best"))


def _identity(entry: Entry) -> tuple[str, str, str, int]:
    return entry["dataset"], entry["model"], entry["defense"], entry["seed"]


def read_entries(folder: str | Path) -> list[Entry]:
    """Reads all result entries of a folder, in the order of their file names.

    A file that is damaged, foreign or repeats the data set, model, defense and seed of an earlier one is skipped with
    a warning that names it.

    Args:
        folder: Where the ``*.json`` files are.

    Raises:
        CheckpointError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no such folder of results: {folder}")
    entries: list[Entry] = []
    names: dict[tuple[str, str, str, int], str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            entry = read_json(path)
            check_entry(entry)
            first = names.setdefault(_identity(entry), path.name)
            if first != path.name:
                raise CheckpointError(f"repeats the data set, model, defense and seed of '{first}'")
        except CheckpointError as error:
            warnings.warn(f"skipped '{path.name}': {error}", ReportWarning, stacklevel=2)
            continue
        entries.append(entry)
    return entries


# --- summarising ------------------------------------------------------------------------------------------------------


def summarize(entries: Sequence[Entry]) -> list[Row]:
    """Means and sample standard deviations over the seeds of each data set, model, defense and setting.

    The decline is taken within each seed before it is averaged, so that a seed's luck cancels.

    Args:
        entries: Result entries, each data set, model, defense and seed once.

    Raises:
        CheckpointError: If an entry is incomplete, occurs twice, contradicts another seed's ``feature_path``, or comes
            from other data than the rest of its data set.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    seen: set[tuple[str, str, str, int]] = set()
    hashes: dict[str, str] = {}
    for entry in entries:
        check_entry(entry)
        identity = _identity(entry)
        made_from = entry["provenance"].get("data_hash")
        if made_from is not None and hashes.setdefault(entry["dataset"], made_from) != made_from:
            raise CheckpointError(f"{identity} was made from other data than the results before it: keep them apart")
        if identity in seen:
            raise CheckpointError(f"two result entries for {identity}: one seed must not count twice; remove one")
        seen.add(identity)
        groups.setdefault(identity[:3], []).append(entry)
    rows = []
    for line, group in groups.items():
        if len({e["feature_path"] for e in group}) > 1:
            raise CheckpointError(f"the seeds of {line} have different values of 'feature_path'")
        rows.append(_row(line, None, [(e["clean"], e["clean"]) for e in group], group[0]["feature_path"]))
        runs: dict[Setting, list[tuple[Entry, Entry]]] = {}
        for entry in group:
            for setting, attack in labelled_attacks(entry["attacks"]):
                runs.setdefault(setting, []).append((entry["clean"], attack))
        rows += [_row(line, setting, pairs, group[0]["feature_path"]) for setting, pairs in runs.items()]
    return sorted(rows, key=lambda row: row.order)


def _row(
    line: tuple[str, str, str], setting: Setting | None, pairs: Sequence[tuple[Entry, Entry]], feature_path: str
) -> Row:
    metrics = _common([after["metrics"] for _, after in pairs])
    channels = _common([after["margins"] for _, after in pairs])
    mean, std = _moments({m: [after["metrics"][m] for _, after in pairs] for m in metrics})
    margins, margins_std = _moments({c: [after["margins"][c] for _, after in pairs] for c in channels})
    decline: dict[str, float | None] = {}
    decline_std: dict[str, float | None] = {}
    if setting is not None:
        for metric in metrics:
            values = [_decline(before["metrics"][metric], after["metrics"][metric]) for before, after in pairs]
            known = [v for v in values if v is not None]
            # A mean over the seeds that happen to have one would be a number of another experiment.
            complete = len(known) == len(values)
            decline[metric] = fmean(known) if complete else None
            decline_std[metric] = stdev(known) if complete and len(known) > 1 else None
    return Row(
        dataset=line[0],
        model=line[1],
        defense=line[2],
        attack=None if setting is None else setting.attack,
        modalities=() if setting is None else setting.modalities,
        scope=None if setting is None else setting.scope,
        norm=None if setting is None else setting.norm,
        budget=0.0 if setting is None else setting.budget,
        seeds=len(pairs),
        mean=mean,
        std=std,
        decline=decline,
        decline_std=decline_std,
        margins=margins,
        margins_std=margins_std,
        feature_path=feature_path,
        flags={} if setting is None else {n: t for _, after in pairs for n, t in (after.get("flags") or {}).items()},
    )


def _common(parts: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in parts[0] if all(name in part for part in parts)]


def _moments(values: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], dict[str, float | None]]:
    mean = {name: fmean(numbers) for name, numbers in values.items()}
    return mean, {name: stdev(numbers) if len(numbers) > 1 else None for name, numbers in values.items()}


def _decline(clean: float, attacked: float) -> float | None:
    return None if clean == 0 else 100 * (attacked - clean) / clean


def as_rows(results: Sequence[Entry] | Sequence[Row]) -> list[Row]:
    """Summarised rows, from rows or from the entries that they are made of.

    Args:
        results: Either.
    """
    rows = [result for result in results if isinstance(result, Row)]
    entries = [result for result in results if not isinstance(result, Row)]
    return rows + summarize(entries)


# --- choosing what to show --------------------------------------------------------------------------------------------


def check_metric(rows: Sequence[Row], metric: str) -> None:
    """Checks that there are rows and that `metric` is one of theirs.

    Raises:
        DataError: If `rows` is empty.
        ConfigError: If no row has the metric.
    """
    if not rows:
        raise DataError("a report expects at least one result entry (got none)")
    known = {name for row in rows for name in row.mean}
    if metric not in known:
        raise ConfigError(unknown_name("metric", metric, known))


def strongest(declines: Mapping[Key, Mapping[Hashable, float]]) -> Key:
    """The attack that takes most, on the mean over the cases on which all were run.

    Args:
        declines: Per attack the decline of each case, in per cent and negative for a loss; must not be empty.
    """
    shared = set.intersection(*(set(cases) for cases in declines.values()))

    def score(key: Key) -> float:
        cases = declines[key]
        numbers = [value for case, value in cases.items() if case in shared] or list(cases.values())
        return fmean(numbers) if numbers else math.inf

    return min(declines, key=score)


def choose_settings(rows: Sequence[Row], metric: str = "recall@20") -> list[Setting]:
    """The strongest attack on each set of modalities at its lowest budget.

    Random noise is chosen only where nothing else was run, a budget over the whole matrix only where none was per item:
    the two are different threats. Models that read no features have no say.

    Args:
        rows: Summarised results.
        metric: The metric by which strength is measured.
    """
    attacked: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.attack is not None and row.feature_path != "none":
            attacked.setdefault(row.modalities, []).append(row)
    chosen = []
    for candidates in attacked.values():
        real = [row for row in candidates if row.setting is not None and not row.setting.is_control] or candidates
        real = [row for row in real if row.scope == "item"] or real
        lowest = min((row.budget for row in real if row.budget > 0), default=0.0)
        declines: dict[Setting, dict[Hashable, float]] = {}
        for row in sorted(real, key=lambda row: row.order):
            if row.budget == lowest and row.setting is not None:
                cases = declines.setdefault(row.setting, {})
                value = row.decline.get(metric)
                if value is not None:
                    cases[row.line] = value
        chosen.append(strongest(declines))
    return sorted(chosen, key=lambda setting: setting.order)
