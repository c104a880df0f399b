"""Tables in the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from mmgraph_robust.reporting import headline, print_table


def _printed(table, width):
    out = io.StringIO()
    print_table(table, Console(file=out, width=width))
    return out.getvalue()


def test_numbers_stay_whole_in_an_ordinary_terminal(entries):
    text = _printed(headline(entries), 80)
    assert max(map(len, text.splitlines())) <= 80
    for number in ("0.2100", "± 0.0141", "\N{MINUS SIGN}30.5"):
        assert number in text


def test_square_brackets_are_no_style(entry):
    assert "[red]X" in _printed(headline([entry(model="[red]X")]), 200)


def test_to_rich_holds_every_row(entries):
    from mmgraph_robust.reporting import to_rich

    table = headline(entries)
    assert to_rich(table).row_count == len(table.rows)
