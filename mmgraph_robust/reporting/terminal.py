"""Tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mmgraph_robust.reporting.cells import Table
from mmgraph_robust.reporting.summary import NOT_ATTACKABLE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable


def to_rich(table: Table) -> RichTable:
    """The table for a terminal; losses and gains are told apart by their sign, colour only repeats it.

    Args:
        table: The table.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    # Text objects, since a name in square brackets would be read as a style.
    rich_table = RichTable(
        title=Text(table.title),
        caption=Text("\n".join(table.notes)) if table.notes else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    rows = [[_stack(text, column.kind) for column, text in zip(table.columns, row, strict=True)] for row in table.rows]
    for k, column in enumerate(table.columns):
        if column.kind == "change":
            continue
        label = f"{column.group}\n{column.label}" if column.group else column.label
        # Names may be folded; a number must stay in one piece.
        parts = [part for row in rows for cell in row[k : k + 2] for part in cell.splitlines()]
        width = None if column.kind == "text" else max(map(len, [*parts, column.label]))
        justify: Literal["left", "right"] = "left" if column.kind == "text" else "right"
        rich_table.add_column(Text(label), justify=justify, overflow="fold", min_width=width)
    for texts, values in zip(rows, table.values, strict=True):
        line: list[Text] = []
        for column, text, value in zip(table.columns, texts, values, strict=True):
            if column.kind != "change":
                line.append(Text(text))
            elif value is not None:
                # Below the value that changed, so that the table fits an ordinary width.
                style = "" if abs(value) < 0.05 else "red" if value < 0 else "green"
                line[-1].append("\n").append(text, style=style)
        rich_table.add_row(*line)
    return rich_table


def _stack(text: str, kind: str) -> str:
    # The notes below the table say it in full; the spread goes below its mean.
    return (
        text.replace(f" ({NOT_ATTACKABLE})", "*")
        if kind == "text"
        else text.replace(" ± ", "\n± ").replace(" %", "\N{NO-BREAK SPACE}%")
    )


def print_table(table: Table, console: Console | None = None) -> None:
    """Prints the table to a terminal.

    Args:
        table: The table.
        console: Where to print (default: standard output).
    """
    from rich.console import Console

    (console or Console()).print(to_rich(table))
