"""The numbers that one would least like to see, found by rule and said first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from mmgraph_robust.reporting.cells import DOUBTFUL, format_change, metric_label
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.summary import Row, check_metric, floor_of, over_shared_seeds, which_seeds

_SUITE = "Suite"

Finding = tuple[str, str]
"""What is wrong, and where it shows."""


def unwelcome(rows: Sequence[Row], metric: str = "recall@20", count: int = 4) -> list[Finding]:
    """The worst cell of each kind, for as many kinds as there are room and cause for.

    In this order: a defense that does harm under attack; a model that falls below one without features whatever defends
    it; a defense's price on clean features; an attack that did more than the suite that holds it; a doubtful number
    that looks better than every sound one; the deepest fall with a defense at the smallest budget; the number on which
    seeds agree least. What lies within the spread of the seeds is no cause, nor is what no seed in common shows.

    Args:
        rows: Summarised results.
        metric: The metric.
        count: How many at most.

    Raises:
        ConfigError: If no result has the metric.
    """
    check_metric(rows, metric)
    known = [row for row in rows if metric in row.mean]
    kinds: Sequence[Callable[[Sequence[Row], str], Iterator[tuple[float, Finding]]]] = (
        _harm, _below, _price, _missed, _doubtful, _fall, _luck,
    )  # fmt: skip
    worst = [max(kind(known, metric), key=lambda found: found[0], default=None) for kind in kinds]
    return [found[1] for found in worst if found is not None][:count]


def _harm(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    for row, base, seeds in _beside_undefended(rows):
        lost = _beyond_spread(base, row, metric)
        # An attack that is blind without a defense says nothing about what the defense changed.
        if _is_attacked(row) and lost > 0 and not base.doubts:
            text = (
                f"{_where(row)}{seeds}: {row.mean[metric]:.4f} {metric_label(metric)} is left with {row.defense}, "
                f"{base.mean[metric]:.4f} without a defense."
            )
            yield lost, ("A defense that does harm", text)


def _below(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    """Among the rows of one model under one setting, defended ones included, not even the best stays above."""
    attacked = sorted(filter(_is_attacked, rows), key=lambda row: (row.dataset, row.model, _key(row.setting)))
    for (dataset, _, _), group in groupby(attacked, lambda row: (row.dataset, row.model, row.setting)):
        every = list(group)
        floor = floor_of([row for row in rows if row.dataset == dataset], metric)
        shared = over_shared_seeds([floor, *every]) if floor is not None else []
        if floor is None or not shared or all(row.undefended for row in every):
            continue
        seeds = _among(shared, [floor, *every])
        floor, *every = shared
        best = max(every, key=lambda row: row.mean[metric])
        if best.mean[metric] >= floor.mean[metric]:
            continue
        # Whoever was attacked on these seeds has them clean, too.
        lines = {row.line for row in every}
        clean = [row.over(best.by_seed).mean[metric] for row in rows if row.attack is None and row.line in lines]
        if max(clean, default=0.0) < floor.mean[metric]:
            continue  # it was below before anyone attacked: no news of the attack
        text = (
            f"{_where(best)}{seeds}: {best.mean[metric]:.4f} {metric_label(metric)} is left at best,"
            f"{_with(best)}; {floor.model}, which reads no features, has {floor.mean[metric]:.4f}."
        )
        # Of all such settings the one that takes least to get there.
        yield -best.budget, ("No defense keeps it above a model without features", text)


def _price(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    for row, base, seeds in _beside_undefended(rows):
        lost = _beyond_spread(base, row, metric)
        if row.attack is None and lost > 0:
            change = format_change(100 * (row.mean[metric] / base.mean[metric] - 1))
            text = (
                f"With {row.defense}, {row.model} on {row.dataset} has {row.mean[metric]:.4f} {metric_label(metric)} "
                f"on clean features instead of {base.mean[metric]:.4f} ({change}){seeds}."
            )
            yield lost / base.mean[metric], ("A defense that costs clean quality", text)


def _missed(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    attacked = [(row, row.setting) for row in rows if row.setting is not None and _is_attacked(row)]
    suites = [(row, setting) for row, setting in attacked if setting.attack.startswith(_SUITE)]
    for row, setting in attacked:
        for suite, its in suites:
            # Who knew less, or attacked other items, may well have done less.
            same = its.is_like(setting) and its.number == setting.number
            if suite is not row and suite.line == row.line and same and its.knowledge in ("white", setting.knowledge):
                both = over_shared_seeds([suite, row])
                if both and (lost := _beyond_spread(both[0], both[1], metric)) > 0:
                    whole, single = (one.mean[metric] for one in both)
                    text = (
                        f"{_where(row)}{_among(both, [suite, row])}: {single:.4f} {metric_label(metric)} is "
                        f"left{_with(row)}, by the suite {whole:.4f}; the search of the suite was not at its best "
                        "there."
                    )
                    yield lost, ("A single attack that did more than the suite", text)


def _doubtful(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    for row in filter(_is_attacked, rows):
        if not row.doubts:
            continue
        alike = [r for r in rows if (r.dataset, r.setting) == (row.dataset, row.setting) and _is_attacked(r)]
        sound = [r for r in alike if not r.doubts]
        shared = over_shared_seeds([row, *sound])
        if shared and all(shared[0].mean[metric] > r.mean[metric] for r in shared[1:]):
            beside = "more than any sound number there" if sound else "and no sound number stands beside it"
            seeds = _among(shared, [row, *sound])
            text = (
                f"{_where(row)}{seeds}: {shared[0].mean[metric]:.4f} {metric_label(metric)} seems to be "
                f"left{_with(row)}, {beside}. It is marked {DOUBTFUL}: {next(iter(row.doubts.values()))}."
            )
            yield shared[0].mean[metric], ("A number that looks best and cannot be trusted", text)


def _fall(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    defended = [row for row in rows if _is_attacked(row) and not row.undefended and row.decline.get(metric) is not None]
    smallest = min((row.budget for row in defended), default=0.0)
    for row in defended:
        decline = row.decline[metric]
        if row.budget == smallest and decline is not None and decline < 0:
            text = (
                f"{_where(row)}: {format_change(decline)} {metric_label(metric)} in spite of {row.defense} "
                f"({row.mean[metric]:.4f} left)."
            )
            yield -decline, ("The deepest fall with a defense", text)


def _luck(rows: Sequence[Row], metric: str) -> Iterator[tuple[float, Finding]]:
    for row in rows:
        spread = row.std.get(metric)
        if spread and row.mean[metric] > 0 and (row.attack is None or _is_attacked(row)):
            text = (
                f"{_where(row)}: {row.mean[metric]:.4f} ± {spread:.4f} {metric_label(metric)} over {row.seeds} "
                f"seeds{_with(row)}."
            )
            yield spread / row.mean[metric], ("The number on which seeds agree least", text)


def _beside_undefended(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, str]]:
    """Defended rows beside those without a defense, over the seeds that both have, and what is to be said of these."""
    bare = {(row.dataset, row.model, row.setting): row for row in rows if row.undefended}
    for row in rows:
        base = bare.get((row.dataset, row.model, row.setting))
        if base is not None and not row.undefended and (both := over_shared_seeds([row, base])):
            yield both[0], both[1], _among(both, [row, base])


def _among(shared: Sequence[Row], rows: Sequence[Row]) -> str:
    text = which_seeds(shared, rows)
    return f", {text}" if text else ""


def _beyond_spread(high: Row, low: Row, metric: str) -> float:
    """How far one row lies below another, beyond what both spread over seeds."""
    return high.mean[metric] - low.mean[metric] - (high.std.get(metric) or 0.0) - (low.std.get(metric) or 0.0)


def _is_attacked(row: Row) -> bool:
    setting = row.setting
    return setting is not None and not (setting.is_control or setting.is_targeted) and row.feature_path != "none"


def _key(setting: Setting | None) -> tuple[object, ...]:
    return () if setting is None else setting.order


def _where(row: Row) -> str:
    setting = "clean features" if row.setting is None else row.setting.label
    return f"{row.model} on {row.dataset}, {setting}"


def _with(row: Row) -> str:
    return " without a defense" if row.undefended else f" with {row.defense}"
