"""What the numbers say, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmgraph_robust.reporting.cells import DOUBTFUL, metric_label
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.summary import (
    NOT_ATTACKABLE,
    Row,
    as_rows,
    check_metric,
    choose_settings,
    floor_of,
    over_shared_seeds,
    which_seeds,
)

_DOUBTED = f"no verdict, for what is marked {DOUBTFUL} is not to be trusted as it stands"


def sentences(results: Sequence[Entry] | Sequence[Row], metric: str = "recall@20") -> list[str]:
    """What befell each model in the strongest of the chosen attacks, and what each defense changes about it.

    A defense is judged by what is left under attack as well as by the share that is lost, since whoever starts lower
    has less to lose, and over the seeds that were run with it and without.

    Args:
        results: Result entries, or their summary.
        metric: The metric.

    Raises:
        ConfigError: If no result has the metric.
        DataError: If there are no results.
    """
    rows = as_rows(results)
    check_metric(rows, metric)
    lines: dict[tuple[str, str], dict[str, dict[Setting | None, Row]]] = {}
    for row in sorted(rows, key=lambda row: row.order):
        lines.setdefault((row.dataset, row.model), {}).setdefault(row.defense, {})[row.setting] = row
    result = []
    for (dataset, model), defenses in lines.items():
        peers = [row for row in rows if row.dataset == dataset]
        result += _about(f"{model} on {dataset}", defenses, peers, metric)
    if any(row.seeds > 1 for row in rows):
        return result
    return [*result, "There is one seed each: small differences may be chance."]


def _about(
    name: str, defenses: Mapping[str, Mapping[Setting | None, Row]], peers: Sequence[Row], metric: str
) -> list[str]:
    label = metric_label(metric)
    reference = next((rows for rows in defenses.values() if next(iter(rows.values())).undefended), None)
    first = next(iter(defenses.values()))
    some = next(iter(first.values()))
    if some.feature_path == "none":
        clean = first.get(None)
        value = "" if clean is None or metric not in clean.mean else f" of {clean.mean[metric]:.4f}"
        return [f"{name} {NOT_ATTACKABLE}, since it reads none: its {label}{value} is the floor to stay above, "
                "no proof of robustness."]  # fmt: skip
    candidates = _like(first, choose_settings(peers, metric))
    setting = _worst(first, candidates, metric)
    if setting is None:
        return [f"{name} was not attacked, or its clean {label} is zero: nothing can be said about its robustness."]
    own = first[setting]
    text = f"Under {setting.label}, {name} {_loss(own, label, metric)}"
    text += " without a defense." if reference is not None else f" with {own.defense}."
    found = [text]
    for defense, rows in defenses.items():
        row = rows.get(setting)
        if rows is first or row is None or row.decline.get(metric) is None:
            continue
        sentence = f"With {defense} it {_loss(row, label, metric)}"
        if reference is not None:
            sentence += f": {_verdict(own, row, metric)}{_price(reference.get(None), rows.get(None), label, metric)}"
        worst = _worst(rows, candidates, metric)
        if worst is not None and (rows[worst].decline[metric] or 0.0) < (row.decline[metric] or 0.0) - 0.1:
            sentence += f"; its own worst is {worst.label}, where it {_loss(rows[worst], label, metric)}"
        found.append(sentence + ".")
    alike = [s for s in first if s is not None and s.is_control and s.is_like(setting) and s.number == setting.number]
    control = first[min(alike, key=lambda s: s.order)] if alike else None
    if control is not None and not setting.is_control and control.decline.get(metric) is not None:
        found.append(f"Random noise of the same size: it {_loss(control, label, metric)}.")
    return [" ".join([*found, *_against_floor(defenses, setting, peers, label, metric)])]


def _like(rows: Mapping[Setting | None, Row], chosen: Sequence[Setting]) -> list[Setting]:
    """All attacks of one model that are of the same threat and size as a chosen one, whichever is the strongest."""
    own = [s for s in rows if s is not None and any(s.is_like(other) for other in chosen)]
    return [s for s in own if not s.is_control] or own


def _worst(rows: Mapping[Setting | None, Row], chosen: Sequence[Setting], metric: str) -> Setting | None:
    candidates = [(row.decline.get(metric), s) for s in chosen if (row := rows.get(s)) is not None]
    known = [(decline, setting.order, setting) for decline, setting in candidates if decline is not None]
    return min(known, key=lambda item: item[:2])[2] if known else None


def _loss(row: Row, label: str, metric: str) -> str:
    decline = row.decline[metric] or 0.0
    left = f"{row.mean[metric]:.4f} left{f', {DOUBTFUL}' if row.doubts else ''}"
    if abs(decline) < 0.05:
        return f"keeps its {label} ({left})"
    spread = row.decline_std.get(metric)
    size = f"{abs(decline):.1f} %" if spread is None else f"{abs(decline):.1f} ± {spread:.1f} %"
    return f"{'loses' if decline < 0 else 'gains'} {size} of its {label} ({left})"


def _verdict(base: Row, row: Row, metric: str) -> str:
    if base.doubts or row.doubts:
        return _DOUBTED
    both = over_shared_seeds([base, row])
    if not both:
        return "no verdict, for none of its seeds was run without a defense"
    return _judged(both[0], both[1], metric) + _seeds(both, [base, row])


def _seeds(shared: Sequence[Row], rows: Sequence[Row]) -> str:
    text = which_seeds(shared, rows)
    return f" ({text})" if text else ""


def _judged(base: Row, row: Row, metric: str) -> str:
    before, after = base.decline[metric] or 0.0, row.decline[metric] or 0.0
    spreads = [base.decline_std.get(metric), row.decline_std.get(metric)]
    known = [spread for spread in spreads if spread is not None]
    if len(known) == 2 and abs(after - before) <= sum(known):
        return "no clear difference, it lies within the spread of the seeds"
    if abs(after - before) < 0.05:
        return "no difference"
    higher = row.mean[metric] >= base.mean[metric]
    if after > before:
        if higher:
            return "the defense helps"
        return "a smaller share, yet less is left than without a defense, for it starts lower"
    if higher:
        return "a larger share, yet more is left than without a defense, for it starts higher"
    return "worse than without a defense"


def _price(before: Row | None, after: Row | None, label: str, metric: str) -> str:
    if before is None or after is None or not (both := over_shared_seeds([before, after])):
        return ""
    old, new = (row.mean.get(metric) for row in both)
    if not old or new is None:
        return ""
    change, seeds = 100 * (new - old) / old, _seeds(both, [before, after])
    if abs(change) < 0.05:
        return f"; on clean data it costs nothing{seeds}"
    return f"; on clean data its {label} is {abs(change):.1f} % {'lower' if change < 0 else 'higher'}{seeds}"


def _against_floor(
    defenses: Mapping[str, Mapping[Setting | None, Row]],
    setting: Setting,
    peers: Sequence[Row],
    label: str,
    metric: str,
) -> list[str]:
    floor = floor_of(peers, metric)
    if floor is None:
        return []
    below, apart = [], []
    partly = False
    for defense, rows in defenses.items():
        row = rows.get(setting)
        if row is None or metric not in row.mean:
            continue
        both = over_shared_seeds([floor, row])
        if not both:
            apart.append("no defense" if row.undefended else defense)
            continue
        partly |= bool(which_seeds(both, [floor, row]))
        if both[1].mean[metric] < both[0].mean[metric]:
            below.append("no defense" if row.undefended else defense)
    told = []
    if below:
        told.append(f"Attacked, it falls below {floor.model}, which reads no features ({label} "
                    f"{floor.mean[metric]:.4f}), with {', '.join(below)}.")  # fmt: skip
    elif not apart:
        told.append(f"All of this stays above {floor.model} ({floor.mean[metric]:.4f}), which reads no features.")
    if partly:
        told.append(f"Where their seeds differ, it is compared with {floor.model} over those that both have.")
    if apart:
        told.append(
            f"With {', '.join(apart)} it shares no seed with {floor.model}, which reads no features: no verdict."
        )
    return told
