"""What tables are made of: headings, cells, and how numbers are printed in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmgraph_robust.errors import ConfigError

MISSING = "\N{EN DASH}"
NOT_APPLICABLE = "n/a"
DOUBTFUL = "\N{DAGGER}"
Cell = tuple[str, "float | None", "float | None"]


@dataclass(frozen=True)
class Column:
    """Heading of a column.

    Args:
        label: What the column holds.
        group: What it has in common with its neighbours, shown above them.
        kind: ``"text"``, ``"value"`` (a number) or ``"change"`` (per cent, negative for a loss).
    """

    label: str
    group: str = ""
    kind: Literal["text", "value", "change"] = "text"

    @property
    def name(self) -> str:
        """Group and label in one line."""
        return f"{self.group}: {self.label}" if self.group else self.label


@dataclass(frozen=True)
class Table:
    """What every form of a table is made from.

    Args:
        title: What the table shows.
        columns: Its headings.
        rows: The cells as people read them.
        values: The cells' numbers, `None` for text and for what is missing.
        deviations: The numbers' standard deviations over seeds, `None` where unknown.
        notes: Sentences to be read with the table.

    Raises:
        ConfigError: If a row has not as many cells as there are columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[tuple[float | None, ...], ...]
    deviations: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({len(self.rows), len(self.values), len(self.deviations)}) > 1:
            raise ConfigError("a table expects as many rows of numbers as of text")
        for row in (*self.rows, *self.values, *self.deviations):
            if len(row) != len(self.columns):
                raise ConfigError(f"a table of {len(self.columns)} columns expects as many cells (got {len(row)})")

    @classmethod
    def from_cells(
        cls, title: str, columns: Sequence[Column], cells: Sequence[Sequence[Cell]], notes: Sequence[str] = ()
    ) -> Table:
        """A table from rows of (text, number, standard deviation)."""
        texts = tuple(tuple(cell[0] for cell in row) for row in cells)
        values = tuple(tuple(cell[1] for cell in row) for row in cells)
        deviations = tuple(tuple(cell[2] for cell in row) for row in cells)
        return cls(title, tuple(columns), texts, values, deviations, tuple(notes))


def metric_label(metric: str) -> str:
    """The name of a metric as papers print it: ``ndcg@20`` becomes ``NDCG@20``."""
    name, at, k = metric.partition("@")
    special = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hit_rate": "Hit rate", "auc": "AUC"}
    return special.get(name, name.replace("_", " ").capitalize()) + at + k


def format_signed(value: float, digits: int) -> str:
    """A difference with its sign."""
    number = f"{value:+.{digits}f}"
    # What rounds to nothing has no direction.
    return number.replace("-", "\N{MINUS SIGN}") if float(number) else number[1:]


def format_change(value: float, std: float | None = None) -> str:
    """A change in per cent with its sign, and its spread where that is known."""
    number = format_signed(value, 1)
    return f"{number} %" if std is None else f"{number} ± {std:.1f} %"


def text_cell(text: str) -> Cell:
    """A cell without a number."""
    return text, None, None


def number_cell(value: float | None, std: float | None = None, digits: int = 4) -> Cell:
    """A number and its spread, each where it is known."""
    if value is None:
        return text_cell(MISSING)
    text = f"{value:.{digits}f}" if std is None else f"{value:.{digits}f} ± {std:.{digits}f}"
    return text, value, std


def change_cell(value: float | None, std: float | None = None) -> Cell:
    """A change in per cent and its spread, each where it is known."""
    return text_cell(MISSING) if value is None else (format_change(value, std), value, std)


def difference_cell(value: float | None, digits: int = 4) -> Cell:
    """A difference in the unit of what it is taken of."""
    return text_cell(MISSING) if value is None else (format_signed(value, digits), value, None)


def marked(cell: Cell, mark: str) -> Cell:
    """The cell with a mark behind its text, unless the mark is empty."""
    return (f"{cell[0]} {mark}", *cell[1:]) if mark else cell
