"""One number measured twice, and whether chance alone may explain how the two differ."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal, TypeAlias

import numpy as np

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.reporting.cells import metric_label
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.settings import Setting, fingerprint, labelled_attacks
from mmgraph_robust.reporting.statistics import Array, PairedTest, bootstrap_means, holm
from mmgraph_robust.reporting.summary import doubts_of
from mmgraph_robust.utils import unpack

#: A difference is shown where its corrected p-value is below this.
LEVEL = 0.05

#: Large families get more draws, but no more than this: what no draw reaches has a p-value all the same.
_MOST_DRAWS = 20_000

Verdict = Literal["better", "worse", "no difference shown", "not tested"]

Tested: TypeAlias = tuple[str, str, str, str, str, tuple[int, ...], float, float]
"""What a test is of: metric, data set, model, defense, hash of the attack, seeds and the two means."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one model, data set and setting, measured twice.

    Args:
        metric: The metric.
        dataset: Name of the data set.
        model: Name of the model.
        defense: Name of the defense; that of the second measurement, where the first has none.
        setting: The attack's setting, `None` on clean features.
        seeds: The seeds that both measurements have.
        before: Mean of the first measurement over `seeds`, or over its own seeds if they share none.
        after: The same of the second.
        by_seed: The difference in each of `seeds`.
        test: The test over users; `None` where there is none.
        corrected: Its p-value, corrected for all tests of its family.
        untested: Why there is no test, else empty.
        identical: Whether both have the same values for every user and seed.
        doubts: Flags of either measurement that say not to trust it as it stands.
        attack: Hash of what the setting names: its name depends on what else is shown.
    """

    metric: str
    dataset: str
    model: str
    defense: str
    setting: Setting | None
    seeds: tuple[int, ...]
    before: float
    after: float
    by_seed: tuple[float, ...]
    test: PairedTest | None = None
    corrected: float | None = None
    untested: str = ""
    identical: bool = False
    doubts: Mapping[str, str] = field(default_factory=dict)
    attack: str = ""

    @property
    def difference(self) -> float:
        """What the second measurement has more than the first."""
        return self.after - self.before

    @property
    def verdict(self) -> Verdict:
        """What the corrected p-value says of the second measurement; metrics are the better the higher."""
        if self.corrected is None:
            return "not tested"
        if self.corrected >= LEVEL:
            return "no difference shown"
        return "better" if self.difference > 0 else "worse"

    @property
    def tested(self) -> Tested:
        """What a test of it is of."""
        line = (self.metric, self.dataset, self.model, self.defense)
        return (*line, self.attack, self.seeds, self.before, self.after)

    @property
    def name(self) -> str:
        """What is compared, in words."""
        setting = "clean" if self.setting is None else self.setting.label
        return f"{self.model} with defense {self.defense} on {self.dataset}, {setting}"


Parts = dict["Setting | None", dict[int, Entry]]


@dataclass(frozen=True)
class Pair:
    """A comparison that is to be tested.

    Args:
        comparison: The comparison.
        users: Number of users.
        load: Makes the differences per user, ``[users]``; `None` where there is nothing to test.
        known: The test, where it was made before.
    """

    comparison: Comparison
    users: int = 0
    load: Callable[[], Array] | None = None
    known: PairedTest | None = None


def setting_order(setting: Setting | None) -> tuple[object, ...]:
    """Sorting key: clean features first."""
    return (False,) if setting is None else (True, *setting.order)


def parts_of(entries: Iterable[Entry], metric: str, among: Sequence[Entry] | None = None) -> Parts:
    """What was measured, by setting and seed, as far as it has the metric.

    Args:
        entries: The entries of one data set, model and defense.
        metric: The metric.
        among: The attacks that names tell apart, see :func:`labelled_attacks`.
    """
    parts: Parts = {}
    for entry in entries:
        for setting, part in ((None, entry["clean"]), *labelled_attacks(entry["attacks"], among)):
            if metric in part["metrics"]:
                made_from = {"data_hash": part.get("provenance", entry["provenance"]).get("data_hash")}
                parts.setdefault(setting, {})[entry["seed"]] = part | made_from
    return parts


def pair_up(
    line: tuple[str, str, str],
    setting: Setting | None,
    first: Mapping[int, Entry],
    second: Mapping[int, Entry],
    metric: str,
    first_name: str,
    known: Mapping[Tested, PairedTest] | None = None,
) -> Pair:
    """Two measurements by seed as a comparison, ready to be tested where their values per user are known.

    Args:
        line: Data set, model and defense.
        setting: The setting.
        first: Of :func:`parts_of`.
        second: Of :func:`parts_of`.
        metric: The metric.
        first_name: What to call the first, for its flags.
        known: Tests that were made while the values per user were there.

    Raises:
        CheckpointError: If the values per user are damaged, or of different numbers of users.
    """
    seeds = tuple(sorted(first.keys() & second.keys()))
    ours = [first[s] for s in seeds or first]
    theirs = [second[s] for s in seeds or second]
    before, after = ([part["metrics"][metric] for part in parts] for parts in (ours, theirs))
    doubts = {f"{name} ({first_name})": text for name, text in _doubts(ours).items()}
    comparison = Comparison(
        metric,
        *line,
        setting,
        seeds,
        fmean(before),
        fmean(after),
        by_seed=tuple(b - a for a, b in zip(before, after, strict=True)) if seeds else (),
        doubts=doubts | _doubts(theirs),
        attack=fingerprint(theirs[0]),
    )
    untested = _why_untested(seeds, [*ours, *theirs], metric)
    if untested:
        earlier = (known or {}).get(comparison.tested)
        if earlier is None:
            return Pair(replace(comparison, untested=untested))
        if earlier == _same(earlier.users):
            return Pair(replace(comparison, test=earlier, corrected=1.0, identical=True))
        return Pair(comparison, earlier.users, known=earlier)
    pairs = [tuple(unpack(part["per_user"][metric]) for part in pair) for pair in zip(ours, theirs, strict=True)]
    users = {len(values) for pair in pairs for values in pair}
    if len(users) > 1:
        raise CheckpointError(f"{comparison.name}: values of {sorted(users)} users of the same data; one is damaged")
    (count,) = users
    if all(np.array_equal(a, b) for a, b in pairs):
        return Pair(replace(comparison, test=_same(count), corrected=1.0, identical=True))
    return Pair(comparison, count, lambda: _per_user(theirs, metric) - _per_user(ours, metric))


def _same(users: int) -> PairedTest:
    return PairedTest(0.0, 0.0, 0.0, 1.0, users)


def _per_user(parts: Sequence[Entry], metric: str) -> Array:
    return np.mean([unpack(part["per_user"][metric]) for part in parts], axis=0, dtype=np.float64)


def _why_untested(seeds: Sequence[int], parts: Sequence[Entry], metric: str) -> str:
    if not seeds:
        return "no seed in common"
    if any(metric not in (part.get("per_user") or {}) for part in parts):
        return f"no values of {metric_label(metric)} per user"
    # Without it nobody knows whether the users are the same.
    return "the hash of the data is missing" if any(part["data_hash"] is None for part in parts) else ""


def _doubts(parts: Sequence[Entry]) -> dict[str, str]:
    return doubts_of({name: text for part in parts for name, text in (part.get("flags") or {}).items()})


def judged(
    pairs: Sequence[Pair], family: Callable[[Comparison], Hashable], *, resamples: int, seed: int
) -> list[Comparison]:
    """Tests what can be tested, and corrects within each family. What is identical needs no test, and no correction.

    Args:
        pairs: Of :func:`pair_up`.
        family: What comparisons that are corrected together have in common.
        resamples: Least number of draws; families of more than 250 get up to 20 000.
        seed: Seed of the draws.
    """
    result = [pair.comparison for pair in pairs]
    families: dict[Hashable, list[int]] = {}
    for index, pair in enumerate(pairs):
        if pair.load is not None or pair.known is not None:
            families.setdefault(family(pair.comparison), []).append(index)
    # What is drawn alike is drawn once, also for several families.
    alike: dict[tuple[int, int], list[int]] = {}
    for members in families.values():
        draws = max(resamples, min(round(2 * len(members) / LEVEL), _MOST_DRAWS))
        for index in members:
            if pairs[index].known is None:
                alike.setdefault((pairs[index].users, draws), []).append(index)
    tests: dict[int, PairedTest] = {i: pair.known for i, pair in enumerate(pairs) if pair.known is not None}
    for (_, draws), same in alike.items():
        loaded = (load() for index in same if (load := pairs[index].load) is not None)
        tests |= dict(zip(same, bootstrap_means(loaded, resamples=draws, seed=seed), strict=True))
    for members in families.values():
        for index, corrected in zip(members, holm([tests[index].p for index in members]), strict=True):
            result[index] = replace(result[index], test=tests[index], corrected=corrected)
    return result
