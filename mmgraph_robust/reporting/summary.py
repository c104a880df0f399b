"""Result entries summarised over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, TypeVar

from mmgraph_robust.attacks.checks import EXPLANATIONS
from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, unknown_name
from mmgraph_robust.reporting.entries import NO_DEFENSE, Entry, check_entry, identity_of, is_undefended
from mmgraph_robust.reporting.settings import Setting, attacks_of, labelled_attacks

Key = TypeVar("Key")

NOT_ATTACKABLE = "cannot be attacked through features"


@dataclass(frozen=True)
class Row:
    """One model with one defense under one setting, summarised over seeds.

    Args:
        dataset: Name of the data set.
        model: Name of the model.
        defense: Label of the defense, mostly ``"none"`` without.
        undefended: Whether this is its model without a defense, with which the others are compared.
        setting: What was done to the features, `None` on clean ones.
        seeds: Number of seeds behind the numbers.
        mean: Mean of each metric over seeds.
        std: Sample standard deviation of each metric; `None` for one seed.
        decline: Mean over seeds of ``100 * (attacked - clean) / clean``, so a loss is negative; `None` where a clean
            value is zero, and on clean features.
        decline_std: Sample standard deviation of the decline over seeds.
        margins: Mean score margin of each channel.
        margins_std: Sample standard deviation of each margin.
        feature_path: How features reach the score: ``"direct"``, ``"graph"`` or ``"none"``.
        reads: The modalities that the model reads, as far as its results tell.
        flags: What the evaluation said about the attack on any seed, by name.
        by_seed: What was measured on clean features and in the setting, by seed.
    """

    dataset: str
    model: str
    defense: str
    undefended: bool
    setting: Setting | None
    seeds: int
    mean: Mapping[str, float]
    std: Mapping[str, float | None]
    decline: Mapping[str, float | None]
    decline_std: Mapping[str, float | None]
    margins: Mapping[str, float]
    margins_std: Mapping[str, float | None]
    feature_path: str
    reads: frozenset[str] = frozenset()
    flags: Mapping[str, str] = field(default_factory=dict)
    by_seed: Mapping[int, tuple[Entry, Entry]] = field(default_factory=dict, compare=False, repr=False)

    def over(self, seeds: Collection[int]) -> Row:
        """The same over some of its seeds.

        Args:
            seeds: The seeds, one of its own among them.
        """
        kept = {seed: parts for seed, parts in self.by_seed.items() if seed in seeds}
        if len(kept) == len(self.by_seed):
            return self
        return _row(self.line, self.undefended, self.setting, kept, self.feature_path, self.reads)

    @property
    def doubts(self) -> dict[str, str]:
        """The flags that say that the numbers are not to be trusted as they stand."""
        return doubts_of(self.flags)

    @property
    def remarks(self) -> dict[str, str]:
        """The other flags, which only say why nothing could change."""
        return {name: text for name, text in self.flags.items() if name not in self.doubts}

    @property
    def line(self) -> tuple[str, str, str]:
        """Data set, model and defense."""
        return self.dataset, self.model, self.defense

    @property
    def attack(self) -> str | None:
        """Name of the attack; `None` on clean features."""
        return None if self.setting is None else self.setting.attack

    @property
    def modalities(self) -> tuple[str, ...]:
        """The attacked modalities; none on clean features."""
        return () if self.setting is None else self.setting.modalities

    @property
    def budget(self) -> float:
        """Size of the change, 0 on clean features."""
        return 0.0 if self.setting is None else self.setting.budget

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorting key: models without a feature path last, no defense first, clean before attacked."""
        setting = self.setting
        line = (self.dataset, self.feature_path == "none", self.model, not self.undefended, self.defense)
        return (*line, setting is not None, () if setting is None else setting.order)


def doubts_of(flags: Mapping[str, str]) -> dict[str, str]:
    """Those of an attack's flags that say that its numbers are not to be trusted as they stand.

    Args:
        flags: Texts by name.
    """
    return {name: text for name, text in flags.items() if name not in EXPLANATIONS}


def defense_order(entry: Entry) -> tuple[bool, bool, str]:
    """Sorting key of an entry by its defense: no defense comes first, that labelled ``"none"`` before others.

    Args:
        entry: The entry.
    """
    label = entry["defense"]
    return not is_undefended(entry), label != NO_DEFENSE, label


def undefended_lines(entries: Iterable[Entry]) -> set[tuple[str, str, str]]:
    """Data set, model and label of each model without a defense: one of each model, the first by :func:`defense_order`.

    Args:
        entries: Result entries.
    """
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for entry in sorted(filter(is_undefended, entries), key=defense_order):
        line = identity_of(entry)[:3]
        found.setdefault(line[:2], line)
    return set(found.values())


def defense_names(rows: Iterable[Row]) -> list[str]:
    """The labels of the rows' defenses, those of no defense first.

    Args:
        rows: Summarised results.
    """
    bare: dict[str, bool] = {}
    for row in rows:
        bare[row.defense] = bare.get(row.defense, False) or row.undefended
    return sorted(bare, key=lambda name: (not bare[name], name))


def by_line(entries: Sequence[Entry]) -> dict[tuple[str, str, str], list[Entry]]:
    """The entries of each data set, model and defense, one for each seed.

    Args:
        entries: Result entries.

    Raises:
        CheckpointError: If an entry is incomplete, occurs twice, contradicts another seed's ``feature_path``, or comes
            from other data than the rest of its data set.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    seen: set[tuple[str, str, str, int]] = set()
    hashes: dict[str, str] = {}
    for entry in entries:
        check_entry(entry)
        identity = identity_of(entry)
        made_from = entry["provenance"].get("data_hash")
        if made_from is not None and hashes.setdefault(entry["dataset"], made_from) != made_from:
            raise CheckpointError(f"{identity} was made from other data than the results before it: keep them apart")
        if identity in seen:
            raise CheckpointError(f"two result entries for {identity}: one seed must not count twice; remove one")
        seen.add(identity)
        groups.setdefault(identity[:3], []).append(entry)
    for line, group in groups.items():
        if len({e["feature_path"] for e in group}) > 1:
            raise CheckpointError(f"the seeds of {line} have different values of 'feature_path'")
    return groups


def summarize(entries: Sequence[Entry]) -> list[Row]:
    """Means and sample standard deviations over the seeds of each data set, model, defense and setting.

    The decline is taken within each seed before it is averaged, so that a seed's luck cancels.

    Args:
        entries: Result entries, each data set, model, defense and seed once.

    Raises:
        CheckpointError: See :func:`by_line`.
    """
    rows = []
    groups, among, bare = by_line(entries), attacks_of(entries), undefended_lines(entries)
    for line, group in groups.items():
        path, undefended = group[0]["feature_path"], line in bare
        reads = frozenset(name for entry in group for name in entry.get("carries") or {})
        rows.append(_row(line, undefended, None, {e["seed"]: (e["clean"], e["clean"]) for e in group}, path, reads))
        runs: dict[Setting, dict[int, tuple[Entry, Entry]]] = {}
        for entry in group:
            for setting, attack in labelled_attacks(entry["attacks"], among):
                runs.setdefault(setting, {})[entry["seed"]] = entry["clean"], attack
        rows += [_row(line, undefended, setting, by_seed, path, reads) for setting, by_seed in runs.items()]
    return sorted(rows, key=lambda row: row.order)


def _row(
    line: tuple[str, str, str],
    undefended: bool,
    setting: Setting | None,
    by_seed: Mapping[int, tuple[Entry, Entry]],
    feature_path: str,
    reads: frozenset[str],
) -> Row:
    pairs = list(by_seed.values())
    metrics = _common([after["metrics"] for _, after in pairs])
    channels = _common([after["margins"] for _, after in pairs])
    mean, std = _moments({m: [after["metrics"][m] for _, after in pairs] for m in metrics})
    margins, margins_std = _moments({c: [after["margins"][c] for _, after in pairs] for c in channels})
    decline: dict[str, float | None] = {}
    decline_std: dict[str, float | None] = {}
    if setting is not None:
        for metric in metrics:
            values = [decline_of(before["metrics"][metric], after["metrics"][metric]) for before, after in pairs]
            known = [v for v in values if v is not None]
            # A mean over the seeds that happen to have one would be a number of another experiment.
            complete = len(known) == len(values)
            decline[metric] = fmean(known) if complete else None
            decline_std[metric] = stdev(known) if complete and len(known) > 1 else None
    return Row(
        dataset=line[0],
        model=line[1],
        defense=line[2],
        undefended=undefended,
        setting=setting,
        seeds=len(pairs),
        mean=mean,
        std=std,
        decline=decline,
        decline_std=decline_std,
        margins=margins,
        margins_std=margins_std,
        feature_path=feature_path,
        reads=reads,
        flags={} if setting is None else {n: t for _, after in pairs for n, t in (after.get("flags") or {}).items()},
        by_seed=by_seed,
    )


def _common(parts: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in parts[0] if all(name in part for part in parts)]


def _moments(values: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], dict[str, float | None]]:
    mean = {name: fmean(numbers) for name, numbers in values.items()}
    return mean, {name: stdev(numbers) if len(numbers) > 1 else None for name, numbers in values.items()}


def decline_of(clean: float, attacked: float) -> float | None:
    """The change from a clean to an attacked value in per cent, negative for a loss; `None` where there was nothing.

    Args:
        clean: The value on clean features.
        attacked: The value on attacked ones.
    """
    return None if clean == 0 else 100 * (attacked - clean) / clean


def as_rows(results: Sequence[Entry] | Sequence[Row]) -> list[Row]:
    """Summarised rows, from rows or from the entries that they are made of.

    Args:
        results: Either.
    """
    rows = [result for result in results if isinstance(result, Row)]
    entries = [result for result in results if not isinstance(result, Row)]
    return rows + summarize(entries)


# --- comparing rows ---------------------------------------------------------------------------------------------------


def over_shared_seeds(rows: Sequence[Row]) -> list[Row]:
    """The rows over the seeds that all of them have: means over other seeds may differ by the luck of the seeds alone.

    Args:
        rows: Summarised results, at least one.

    Returns:
        As many rows; none where no seed is common to all.
    """
    shared = set.intersection(*(set(row.by_seed) for row in rows))
    return [row.over(shared) for row in rows] if shared else []


def which_seeds(shared: Sequence[Row], rows: Sequence[Row]) -> str:
    """What is to be said of the seeds of a comparison: ``"over seed 0, which both have"``; nothing where none differ.

    Args:
        shared: Of :func:`over_shared_seeds`, not empty.
        rows: What it was given.
    """
    seeds = sorted(shared[0].by_seed)
    if all(row.seeds == len(seeds) for row in rows):
        return ""
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"over {noun} {', '.join(map(str, seeds))}, which {'both' if len(rows) == 2 else 'all'} have"


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


def floor_of(rows: Sequence[Row], metric: str) -> Row | None:
    """The best clean row of a model that reads no features: what every other model has to stay above, also attacked.

    Args:
        rows: Summarised results of one data set.
        metric: The metric.
    """
    floors = [row for row in rows if row.feature_path == "none" and row.attack is None and metric in row.mean]
    return max(floors, key=lambda row: row.mean[metric], default=None)


_PREFERRED: tuple[Callable[[Setting], bool], ...] = (
    lambda setting: not setting.is_control,
    lambda setting: not setting.is_targeted,
    lambda setting: setting.scope == "item",
    lambda setting: setting.relative,
)


def choose_settings(rows: Sequence[Row], metric: str = "recall@20") -> list[Setting]:
    """The strongest attack on each set of modalities at its lowest budget.

    Random noise is chosen only where nothing else was run, an attack that hides or promotes items only where none was
    to ruin the ranking, a budget over the whole matrix only where none was per item, an absolute one only where none
    was relative: these are different threats. Models that read no features have no say.

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
        real = candidates
        for preferred in _PREFERRED:
            real = [row for row in real if row.setting is not None and preferred(row.setting)] or real
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
