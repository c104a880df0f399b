"""The forms of a table: Markdown, CSV, HTML and LaTeX."""

from __future__ import annotations

import csv
import html
import io
from itertools import groupby

from mmgraph_robust.reporting.cells import Column, Table


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, with its title and notes.

    Args:
        table: The table.
    """
    lines = [f"**{_escape_markdown(table.title)}**", ""]
    lines.append("| " + " | ".join(_escape_markdown(column.name) for column in table.columns) + " |")
    lines.append("|" + "|".join("---" if column.kind == "text" else "---:" for column in table.columns) + "|")
    lines += ["| " + " | ".join(map(_escape_markdown, row)) + " |" for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {_escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    text = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\|`*_[]":
        text = text.replace(mark, "\\" + mark)
    return text


def to_csv(table: Table) -> str:
    """The table's numbers in full precision, with a column for each standard deviation that is known.

    Args:
        table: The table.
    """
    spread = [any(row[k] is not None for row in table.deviations) for k in range(len(table.columns))]
    header: list[str] = []
    for column, wanted in zip(table.columns, spread, strict=True):
        header += [column.name, f"{column.name} std"] if wanted else [column.name]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for texts, values, deviations in zip(table.rows, table.values, table.deviations, strict=True):
        line: list[str | float | None] = []
        for k, column in enumerate(table.columns):
            line.append(texts[k] if column.kind == "text" else values[k])
            if spread[k]:
                line.append(deviations[k])
        writer.writerow(line)
    return buffer.getvalue()


def to_html(table: Table) -> str:
    """The table as HTML in a box that scrolls on narrow screens; all text is escaped.

    Args:
        table: The table.
    """
    leading = next((k for k, column in enumerate(table.columns) if column.kind != "text"), 1)
    body = []
    for texts, values in zip(table.rows, table.values, strict=True):
        cells = []
        for k, (column, text) in enumerate(zip(table.columns, texts, strict=True)):
            if k < leading:
                cells.append(f'<th scope="row">{html.escape(text)}</th>')
            else:
                cells.append(f'<td class="{_html_class(column, values[k])}">{html.escape(text)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{html.escape(table.title)}">\n<table>\n'
        f"<caption>{html.escape(table.title)}</caption>\n<thead>{_html_head(table)}</thead>\n"
        "<tbody>\n"
        + "\n".join(body)
        + "\n</tbody>\n</table>\n</div>\n"
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
    )


def _html_class(column: Column, value: float | None) -> str:
    if column.kind == "text":
        return "text"
    if column.kind == "value" or value is None or abs(value) < 0.05:
        return "number"
    return "number loss" if value < 0 else "number gain"


def _html_head(table: Table) -> str:
    def cell(column: Column, attributes: str = "") -> str:
        kind = "text" if column.kind == "text" else "number"
        return f'<th scope="col" class="{kind}"{attributes}>{html.escape(column.label)}</th>'

    if not any(column.group for column in table.columns):
        return f"<tr>{''.join(cell(column) for column in table.columns)}</tr>"
    top, bottom = [], []
    for group, members in groupby(table.columns, key=lambda column: column.group):
        columns = list(members)
        if group:
            top.append(f'<th scope="colgroup" class="group" colspan="{len(columns)}">{html.escape(group)}</th>')
            bottom += [cell(column) for column in columns]
        else:
            top += [cell(column, ' rowspan="2"') for column in columns]
    return f"<tr>{''.join(top)}</tr><tr>{''.join(bottom)}</tr>"


def to_latex(table: Table) -> str:
    r"""The table as LaTeX, with its title as the caption and its notes below; all text is escaped.

    The document needs ``\usepackage{booktabs,amssymb}``.

    Args:
        table: The table.
    """
    layout = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escape_latex(table.title)}}}"]
    lines += [f"\\begin{{tabular}}{{{layout}}}", "\\toprule", *_latex_head(table), "\\midrule"]
    lines += [_latex_row(list(map(_escape_latex, row))) for row in table.rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if table.notes:
        lines += ["\\par\\smallskip", "\\begin{minipage}{\\linewidth}", "\\footnotesize"]
        lines += [f"{_escape_latex(note)}\\par" for note in table.notes]
        lines.append("\\end{minipage}")
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _latex_head(table: Table) -> list[str]:
    labels = _latex_row([_escape_latex(column.label) for column in table.columns])
    if not any(column.group for column in table.columns):
        return [labels]
    cells, rules, place = [], [], 1
    for group, members in groupby(table.columns, key=lambda column: column.group):
        width = len(list(members))
        if group:
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{_escape_latex(group)}}}")
            rules.append(f"\\cmidrule(lr){{{place}-{place + width - 1}}}")
        else:
            cells += [""] * width
        place += width
    return [_latex_row(cells), " ".join(rules), labels]


def _latex_row(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _escape_latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


# A star or a square bracket after the end of a line would be read as its argument.
_LATEX = str.maketrans(
    {character: "\\" + character for character in "{}$&#_%"}
    | {character: f"{{{character}}}" for character in "[]*"}
    | {
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        "`": "\\textasciigrave{}",
        "±": "$\\pm$",
        "\N{MINUS SIGN}": "$-$",
        "\N{EN DASH}": "--",
        "\N{DAGGER}": "\\dag{}",
        "\N{BLACK UP-POINTING TRIANGLE}": "$\\blacktriangle$",
        "\N{BLACK DOWN-POINTING TRIANGLE}": "$\\blacktriangledown$",
    }
)
