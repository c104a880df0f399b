"""Result entries: one JSON file for each thing that was done, read, checked and put together.

A file of schema 2 holds one training with its clean metrics (``key`` equals ``trained``), or one attack on the model of
that training; it repeats what is needed to read it alone. ``clean`` and every attack may hold ``per_user``: the values
of a metric for the users of the split in ascending order (:func:`~mmgraph_robust.utils.unpack`). An attack may hold its
``place`` among the attacks of its run and, once it is put together with its training, its own ``provenance``, where
that is another. A file of schema 1 holds a training with all of its attacks.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph_robust.attacks.checks import Outcome, compare
from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.reporting.settings import fingerprint, labelled_attacks
from mmgraph_robust.utils import read_json, unpack

Entry = dict[str, Any]

SCHEMA = 2
SCHEMAS = (1, 2)
NO_DEFENSE = "none"
FEATURE_PATHS = ("direct", "graph", "none")


class ReportWarning(UserWarning):
    """A result file that was left out of a report."""


def check_entry(entry: object) -> None:
    """Checks that `entry` is a result entry of a known schema.

    Args:
        entry: What was read from a file.

    Raises:
        CheckpointError: If it is not; the message lists everything that is missing or wrong.
    """
    if not isinstance(entry, dict):
        raise CheckpointError(f"a result entry expects a JSON object (got {type(entry).__name__})")
    if entry.get("schema") not in SCHEMAS:
        raise CheckpointError(f"a result entry expects 'schema' to be one of {SCHEMAS} (got {entry.get('schema')!r})")
    problems = list(_problems(entry))
    if problems:
        raise CheckpointError("not a complete result entry: " + "; ".join(problems))


def _problems(entry: Entry) -> Iterable[str]:
    for key in ("dataset", "model", "defense"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            yield f"'{key}' expects a name (got {entry.get(key)!r})"
    if not isinstance(entry.get("seed"), int):
        yield f"'seed' expects an integer (got {entry.get('seed')!r})"
    for key in ("key", "trained") if entry["schema"] > 1 else ():
        if not isinstance(entry.get(key), str) or not entry[key]:
            yield f"'{key}' expects a hash (got {entry.get(key)!r})"
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
        yield from _attack_problems(attacks, clean if isinstance(clean, dict) else {}, entry["schema"])
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


def _attack_problems(attacks: Sequence[Any], clean: Mapping[str, Any], schema: int) -> Iterable[str]:
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
        place = attack.get("place")
        if not isinstance(place, (int, type(None))):
            yield f"'{where}.place' expects an integer (got {place!r})"
        flags = attack.get("flags", {} if schema == 1 else None)
        if not isinstance(flags, dict) or not all(isinstance(text, str) for text in flags.values()):
            yield f"'{where}.flags' expects an object of texts (got {flags!r})"
        if attack.get("outcome") is not None:
            yield from _outcome_problems(attack["outcome"], f"{where}.outcome")
        if not isinstance(attack.get("provenance", {}), dict):
            yield f"'{where}.provenance' expects an object (got {attack['provenance']!r})"
        yield from _measure_problems(attack, where)
        ours, theirs = attack.get("metrics"), clean.get("metrics")
        if isinstance(ours, dict) and isinstance(theirs, dict) and set(ours) != set(theirs):
            yield f"'{where}.metrics' expects the metrics of 'clean' (differ in {sorted(set(ours) ^ set(theirs))})"
    if sound:
        counts = Counter(setting.label for setting, _ in labelled_attacks(attacks))
        yield from (f"'attacks' holds '{label}' {count} times" for label, count in counts.items() if count > 1)


def _outcome_problems(outcome: object, where: str) -> Iterable[str]:
    if not isinstance(outcome, dict):
        yield f"'{where}' expects an object (got {outcome!r})"
        return
    known = {field.name: field for field in fields(Outcome)}
    missing = {name for name, field in known.items() if field.default is MISSING} - set(outcome)
    if missing or set(outcome) - set(known):
        yield f"'{where}' expects {sorted(known)} (got {sorted(outcome)})"
        return
    for name, value in outcome.items():
        numeric = known[name].type in ("float", "int")
        if not (_is_number(value) if numeric else isinstance(value, str)):
            yield f"'{where}.{name}' expects a {'number' if numeric else 'text'} (got {value!r})"


def _measure_problems(part: Mapping[str, Any], where: str) -> Iterable[str]:
    for key in ("metrics", "margins"):
        values = part.get(key)
        if not isinstance(values, dict) or not all(_is_number(v) for v in values.values()):
            yield f"'{where}.{key}' expects an object of numbers (got {values!r})"
        elif key == "metrics" and not values:
            yield f"'{where}.metrics' is empty"
    per_user = part.get("per_user") or {}
    if not isinstance(per_user, dict) or not all(isinstance(text, str) for text in per_user.values()):
        yield f"'{where}.per_user' expects an object of packed numbers (got {type(per_user).__name__})"
        return
    for name, text in per_user.items():
        try:
            sound = bool(np.isfinite(unpack(text)).all())
        except CheckpointError as error:
            yield f"'{where}.per_user.{name}': {error}"
        else:
            if not sound:
                yield f"'{where}.per_user.{name}' holds what is not a finite number"


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


def best_validation(training: Mapping[str, Any]) -> Any:
    """The best validation value of a training run; ``best`` is its name in the training's own history."""
    return training.get("best_validation", training.get("best"))


def identity_of(entry: Entry) -> tuple[str, str, str, int]:
    """Data set, model, defense and seed."""
    return entry["dataset"], entry["model"], entry["defense"], entry["seed"]


def is_undefended(entry: Entry) -> bool:
    """Whether there was no defense: the configuration says so, whatever the label; without one, the label does.

    Args:
        entry: The entry.
    """
    config = entry["config"]
    defense = config.get("defense") if isinstance(config, Mapping) else None
    name = defense.get("name") if isinstance(defense, Mapping) else None
    return bool((entry["defense"] if name is None else name) == NO_DEFENSE)


def read_entries(folder: str | Path, files: Collection[str] | None = None) -> list[Entry]:
    """Reads all result entries of a folder, each training with all attacks on its model, in the order of file names.

    A file that is damaged or foreign, or that is of another training than an earlier one of the same data set, model,
    defense and seed, is skipped with a warning that names it.

    Args:
        folder: Where the ``*.json`` files are.
        files: Names of those that are wanted (default: all); the others are passed over.

    Raises:
        CheckpointError: If there is no such folder.
    """
    return merge((name, entry) for name, entry in read_files(folder) if files is None or name in files)


def read_files(folder: str | Path) -> list[tuple[str, Entry]]:
    """Every sound file of a folder, by name and not put together; the others are skipped with a warning.

    Args:
        folder: Where the ``*.json`` files are.

    Raises:
        CheckpointError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no such folder of results: {folder}")
    found: list[tuple[str, Entry]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            entry = read_json(path)
            check_entry(entry)
        except CheckpointError as error:
            _skip(path.name, error)
            continue
        found.append((path.name, entry))
    return found


def merge(found: Iterable[tuple[str, Entry]]) -> list[Entry]:
    """Puts every training together with the attacks on its model, and flags outcomes that contradict each other.

    Args:
        found: Names of files and sound entries.
    """
    groups: dict[tuple[str, str, str, int], list[tuple[str, Entry]]] = {}
    for name, entry in found:
        group = groups.setdefault(identity_of(entry), [])
        first = group[0] if group else None
        if first is not None and "trained" not in entry:
            _skip(name, f"repeats the data set, model, defense and seed of '{first[0]}'")
        elif first is not None and first[1].get("trained") != entry.get("trained"):
            _skip(name, f"is of another training than '{first[0]}', which has its data set, model, defense and seed")
        elif entry.get("key") in {e.get("key") for _, e in group} - {None}:
            _skip(name, "repeats the key of an earlier file")
        else:
            group.append((name, entry))
    return [_merged([entry for _, entry in group]) for group in groups.values()]


def _merged(parts: Sequence[Entry]) -> Entry:
    if len(parts) == 1 and parts[0]["schema"] == 1:
        return parts[0]
    # The file of the training knows its history.
    base = next((part for part in parts if part["key"] == part["trained"]), parts[0])
    attacks = [
        attack
        | {"flags": dict(attack.get("flags", {}))}
        | ({} if "provenance" in attack else _other_provenance(part, base))
        for part in parts
        for attack in part["attacks"]
    ]
    # Names of files are hashes. The order of the run is the same for every seed; old files do not tell it.
    attacks.sort(key=lambda attack: math.inf if attack.get("place") is None else attack["place"])
    compared = [attack for attack in attacks if attack.get("outcome")]
    outcomes = [Outcome(**attack["outcome"]) for attack in compared]
    for attack, flags in zip(compared, compare(outcomes), strict=True):
        attack["flags"] |= flags
    return base | {"attacks": attacks}


def add_attacks(entry: Entry, other: Entry) -> Entry:
    """An entry with those attacks of another one that it lacks, after its own.

    Args:
        entry: The entry.
        other: Another entry; if it is not of the very same trained model, nothing is added.
    """
    weights = [one["training"].get("weights") for one in (entry, other)]
    if entry.get("trained") is None or other.get("trained") != entry["trained"] or weights[0] != weights[1]:
        return entry
    known = {fingerprint(attack) for attack in entry["attacks"]}
    # Places of another run say nothing beside those of this one.
    more = [attack | {"place": None} for attack in other["attacks"] if fingerprint(attack) not in known]
    return _merged([entry, other | {"attacks": more}]) if more else entry


def _other_provenance(part: Entry, base: Entry) -> Entry:
    """What is to be kept of the provenance of an attack's file: nothing, where only its time is another."""
    same = _provenance_but_time(part) == _provenance_but_time(base)
    return {} if same else {"provenance": part["provenance"]}


def _provenance_but_time(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry["provenance"].items() if key != "created"}


def _skip(name: str, reason: object) -> None:
    warnings.warn(f"skipped '{name}': {reason}", ReportWarning, stacklevel=3)
