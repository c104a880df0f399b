"""The opening of the page: what was compared, and what came of it, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmgraph_robust.reporting.board import Board, Line
from mmgraph_robust.reporting.cells import DOUBTFUL, format_change, metric_label
from mmgraph_robust.reporting.summary import Row, over_shared_seeds, which_seeds

Pairs = Sequence[tuple[Line, Row]]
"""Lines with their rows under one case."""


def scope(board: Board) -> str:
    """What was compared: how many models, defenses, data sets, seeds and attacks, and what is unusual about these.

    Args:
        board: The leaderboard.
    """
    defenses = {line.clean.defense for line in board.lines if not line.clean.undefended}
    attacks = {name for names in board.threats.values() for name in names} - board.controls
    seeds = {line.clean.seeds for line in board.lines}
    parts = [_count(len(board.names("model")), "backbone"), _count(len(defenses), "defense")]
    parts.append(_count(len(board.names("dataset")), "data set"))
    parts.append(f"{min(seeds)} to {max(seeds)} seeds each" if len(seeds) > 1 else f"{_count(max(seeds), 'seed')} each")
    if attacks:
        parts += [_count(len(attacks), "attack"), _count(len(board.threats), "threat")]
    text = " ".join([f"{', '.join(parts[:-1])} and {parts[-1]}.", *board.terms])
    return text if max(seeds) > 1 else f"{text} With one seed each, small differences may be chance."


def overview(board: Board) -> dict[str, str]:
    """What came of the leaderboard's default case: a paragraph for each data set.

    What is called the best is never a number that is marked as doubtful, for that is no evidence of robustness; and
    nothing is compared but over the seeds that both sides have.

    Args:
        board: The leaderboard.
    """
    found = {}
    for dataset in board.names("dataset"):
        lines = [line for line in board.lines if line.clean.dataset == dataset]
        attacked = [(line, row) for line in lines if (row := board.shown(line)) is not None]
        if board.default is None or not attacked:
            found[dataset] = "No attack of the kind that is shown first was run here."
            continue
        bare = [pair for pair in attacked if pair[0].clean.undefended]
        threat, attack = board.default
        rows = [row for _, row in attacked]
        shared = over_shared_seeds(rows)
        if shared:
            seeds = which_seeds(shared, rows)
            same = [(replace(line, clean=line.clean.over(row.by_seed)), row)
                    for (line, _), row in zip(attacked, shared, strict=True)]  # fmt: skip
            plain = [pair for pair in same if pair[0].clean.undefended]
            parts = [f"Under {attack} on {threat}{f', {seeds}' if seeds else ''}:"]
            parts += [_losses(plain or same, board.metric), _best(same, board.metric)]
        else:
            parts = [f"Under {attack} on {threat} no seed is common to all: none is called the best."]
        parts += _below(bare or attacked, board.metric)
        parts += _defended(attacked, bare, board.metric)
        doubts = sum(bool(row.doubts) for _, row in attacked)
        if doubts:
            parts.append(f"{doubts} of {len(attacked)} numbers are marked {DOUBTFUL}, not to be trusted as they stand.")
        found[dataset] = " ".join(parts).replace(" %", "\N{NO-BREAK SPACE}%")
    return found


def _losses(attacked: Pairs, metric: str) -> str:
    known = [(change, line.clean.model) for line, row in attacked if (change := row.decline[metric]) is not None]
    if not known:
        return "there was nothing to lose."
    (most, loser), (least, keeper) = min(known), max(known)
    without = "without a defense" if attacked[0][0].clean.undefended else "with their defenses"
    text = f"{without}, {metric_label(metric)} changes by {format_change(most)} ({loser})"
    return f"{text}." if len(known) == 1 else f"{text} to {format_change(least)} ({keeper})."


def _best(attacked: Pairs, metric: str) -> str:
    sound = [(row.mean[metric], line) for line, row in attacked if not row.doubts]
    if not sound:
        return "No number is free of doubt, so none is called the best."
    left, line = max(sound, key=lambda pair: pair[0])
    defense = "without a defense" if line.clean.undefended else f"with {line.clean.defense}"
    text = f"Most is left to {line.clean.model} {defense}: {left:.4f} of {line.clean.mean[metric]:.4f}"
    higher = sum(row.mean[metric] > left for _, row in attacked)
    return f"{text} (among those that are not marked {DOUBTFUL})." if higher else f"{text}."


def _below(attacked: Pairs, metric: str) -> list[str]:
    floor = attacked[0][0].floor
    if floor is None:
        return []
    level = f"{floor.model} ({floor.mean[metric]:.4f}), which reads no features"
    found = [(line, below) for line, row in attacked if (below := line.is_below_floor(row, metric)) is not None]
    apart = [f"{len(attacked) - len(found)} share no seed with {floor.model}."] if len(found) < len(attacked) else []
    if not found:
        return apart
    fell = [line for line, below in found if below]
    before = sorted(line.clean.model for line in fell if line.is_below_floor(line.clean, metric))
    fallen = sorted(line.clean.model for line in fell if line.clean.model not in before)
    if len(before) == len(found):
        return [f"Even on clean features all lie below {level}.", *apart]
    text = f"{len(fallen) or 'None'} of {len(found)} fall below {level}" + (f": {', '.join(fallen)}" if fallen else "")
    return [text + (f"; below it even on clean features: {', '.join(before)}." if before else "."), *apart]


def _defended(attacked: Pairs, bare: Pairs, metric: str) -> list[str]:
    before = {line.clean.model: row for line, row in bare}
    verdicts: dict[str, list[bool]] = {}
    apart: dict[str, int] = {}
    for line, row in attacked:
        base = before.get(line.clean.model)
        if not line.clean.undefended and base is not None and not (row.doubts or base.doubts):
            both = over_shared_seeds([base, row])
            if not both:
                apart[line.clean.defense] = apart.get(line.clean.defense, 0) + 1
                continue
            base, row = both
            # What lies within the spreads of the seeds is no gain.
            spread = (row.std[metric] or 0.0) + (base.std[metric] or 0.0)
            verdicts.setdefault(line.clean.defense, []).append(row.mean[metric] - base.mean[metric] > spread)
    told = [f"{name} leaves more than no defense to {sum(found)} of {_count(len(found), 'backbone')}"
            for name, found in sorted(verdicts.items())]  # fmt: skip
    told += [f"{name} shares no seed with no defense on {_count(number, 'backbone')}" for name, number in apart.items()]
    return [f"{'; '.join(told)}."] if told else []


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
