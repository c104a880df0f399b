"""The leaderboard: a line per data set, model and defense, and what is left of each under every threat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmgraph_robust.reporting.settings import Setting, notes_on_terms
from mmgraph_robust.reporting.summary import Row, check_metric, choose_settings, floor_of, over_shared_seeds

Case = tuple[str, str]
"""A threat in words and the name of an attack."""

ALL = "all modalities"


@dataclass(frozen=True)
class Line:
    """One data set, model and defense.

    Args:
        clean: The row on clean features.
        runs: The row of every case that was run.
        floor: The clean row of the best model that reads no features on this data set, `None` without one.
    """

    clean: Row
    runs: Mapping[Case, Row]
    floor: Row | None

    @property
    def reads(self) -> bool:
        """Whether the model reads features, so that there is something to attack."""
        return self.clean.feature_path != "none"

    @property
    def doubtful(self) -> int:
        """Under how many cases a flag says that the number is not to be trusted."""
        return sum(bool(row.doubts) for row in self.runs.values())

    def is_below_floor(self, row: Row, metric: str) -> bool | None:
        """Whether what `row` has left is less than a model reaches that reads no features, over the seeds of both.

        `None` if it reads none itself, or there is no such model or no seed in common.
        """
        both = over_shared_seeds([row, self.floor]) if self.reads and self.floor is not None else []
        return both[0].mean[metric] < both[1].mean[metric] if both else None

    def below(self, row: Row, metric: str) -> str:
        """The same in words for the line's notes; nothing where it stays above."""
        if self.floor is None or not self.is_below_floor(row, metric):
            return ""
        return f"below {self.floor.model}{', even clean' if self.is_below_floor(self.clean, metric) else ''}"


@dataclass(frozen=True)
class Board:
    """All lines under all threats, for one metric.

    Args:
        metric: The metric.
        lines: The lines: data set by data set, most left under the default case first, models without features last.
        threats: What an attacker may change, in words, with the names of the attacks that were run so.
        controls: The names among them that are no attacks.
        default: The case that is shown first, `None` if nothing was attacked.
        modalities: What ``"all modalities"`` means on each data set where it occurs.
    """

    metric: str
    lines: tuple[Line, ...]
    threats: Mapping[str, tuple[str, ...]]
    controls: frozenset[str]
    default: Case | None
    modalities: Mapping[str, tuple[str, ...]]

    @property
    def terms(self) -> list[str]:
        """What of the threats is not as usual, in words."""
        runs = [row for line in self.lines if line.reads for row in line.runs.values()]
        return notes_on_terms(row.setting for row in runs if row.setting is not None)

    def shown(self, line: Line) -> Row | None:
        """The row of a line under the default case, `None` where it was not run or the model reads no features."""
        return line.runs.get(self.default) if self.default is not None and line.reads else None

    def names(self, part: str) -> list[str]:
        """The names among the lines of ``"dataset"``, ``"model"`` or ``"defense"``, in the order of rows."""
        rows = sorted((line.clean for line in self.lines), key=lambda row: row.order)
        return list(dict.fromkeys(getattr(row, part) for row in rows))

    def describe(self) -> dict[str, Any]:
        """What the page's script needs, as JSON: texts once, and every number rounded to what is shown."""
        threats, attacks = list(self.threats), sorted({name for names in self.threats.values() for name in names})
        texts: dict[str, int] = {}
        runs: dict[str, list[Any]] = {}
        for index, line in enumerate(self.lines):
            for (threat, attack), row in line.runs.items() if line.reads else ():
                doubts = [texts.setdefault(text, len(texts)) for text in flag_texts(row.doubts)]
                remarks = [texts.setdefault(text, len(texts)) for text in flag_texts(row.remarks)]
                numbers = [_rounded(part.get(self.metric), digits) for part, digits in _parts(row)]
                key = f"{threats.index(threat)} {attacks.index(attack)}"
                runs.setdefault(key, []).append(
                    [index, *numbers, row.seeds, doubts, remarks, line.below(row, self.metric)]
                )
        return {
            "threats": [[threat, [attacks.index(name) for name in names]] for threat, names in self.threats.items()],
            "attacks": attacks,
            "controls": [attacks.index(name) for name in attacks if name in self.controls],
            "texts": list(texts),
            "runs": runs,
            "lines": [self._line(line) for line in self.lines],
            "default": self.default,
        }

    def _line(self, line: Line) -> dict[str, Any]:
        return {
            "clean": _rounded(line.clean.mean.get(self.metric), 4),
            "seeds": line.clean.seeds,
            "doubtful": line.doubtful,
            "reads": line.reads,
        }


def make_board(rows: Sequence[Row], metric: str = "recall@20") -> Board:
    """Makes the leaderboard.

    Args:
        rows: Summarised results.
        metric: The metric by which is compared.

    Raises:
        ConfigError: If no row has the metric.
        DataError: If there are no rows.
    """
    check_metric(rows, metric)
    rows = [row for row in rows if metric in row.mean]
    every: dict[str, set[str]] = {}
    for row in rows:
        # Not only what was attacked: a file may name some modalities of those that models read.
        every.setdefault(row.dataset, set()).update(row.modalities, row.reads)
    runs: dict[tuple[str, str, str], dict[Case, Row]] = {}
    threats: dict[str, list[Setting]] = {}
    for row in sorted(rows, key=lambda row: () if row.setting is None else row.setting.order):
        if row.setting is not None:
            case = (_threat(row.setting, every[row.dataset]), row.setting.attack)
            runs.setdefault(row.line, {})[case] = row
            if row.feature_path != "none":
                threats.setdefault(case[0], []).append(row.setting)
    joint = {row.dataset for row in rows if _is_joint(row.modalities, every[row.dataset])}
    default = _default(rows, every, metric)
    floors = {name: floor_of([row for row in rows if row.dataset == name], metric) for name in every}
    lines = [Line(r, runs.get(r.line, {}), floors[r.dataset]) for r in rows if r.attack is None]

    def order(line: Line) -> tuple[Any, ...]:
        row = line.runs.get(default) if default is not None and line.reads else line.clean
        return line.clean.dataset, not line.reads, row is None, -(row or line.clean).mean[metric], line.clean.order

    return Board(
        metric=metric,
        lines=tuple(sorted(lines, key=order)),
        threats={name: tuple(dict.fromkeys(setting.attack for setting in found)) for name, found in threats.items()},
        controls=frozenset(s.attack for found in threats.values() for s in found if s.is_control),
        default=default,
        modalities={name: tuple(sorted(found)) for name, found in every.items() if name in joint},
    )


def flag_texts(flags: Mapping[str, str]) -> list[str]:
    """Flags as sentences: their names and what was seen.

    Args:
        flags: Texts by name.
    """
    return [f"{name}: {text}" for name, text in flags.items()]


def _is_joint(modalities: Sequence[str], every: set[str]) -> bool:
    return len(every) > 1 and set(modalities) == every


def _threat(setting: Setting, every: set[str]) -> str:
    # Said so that one threat is the same on data sets whose modalities have other names.
    reach = ALL if _is_joint(setting.modalities, every) else " + ".join(setting.modalities)
    return f"{reach}, {setting.size} {setting.threat}"


def _default(rows: Sequence[Row], every: Mapping[str, set[str]], metric: str) -> Case | None:
    """The chosen setting on most modalities, that of most lines where data sets differ in it."""
    chosen = choose_settings(rows, metric)
    widest = max((len(setting.modalities) for setting in chosen), default=0)
    joint = [setting for setting in chosen if len(setting.modalities) == widest]
    found = Counter(
        (_threat(row.setting, every[row.dataset]), row.setting.attack)
        for row in sorted(rows, key=lambda row: row.order)
        if row.setting in joint and row.setting is not None and row.feature_path != "none"
    )
    return found.most_common(1)[0][0] if found else None


def _parts(row: Row) -> list[tuple[Mapping[str, float | None], int]]:
    return [(row.mean, 4), (row.std, 4), (row.decline, 1), (row.decline_std, 1)]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
