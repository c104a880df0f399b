"""The forms of a table."""

from __future__ import annotations

import csv
import io
import re

import pytest

from mmgraph_robust.reporting import Table, headline, to_csv, to_html, to_latex, to_markdown
from mmgraph_robust.reporting.cells import Column

HOSTILE = "<script>alert(1)</script>|[red]"


def test_markdown_and_html_escape(entry):
    table = headline([entry(model=HOSTILE)])
    markdown = to_markdown(table)
    assert "<script>" not in markdown
    assert "\\|" in markdown
    assert "<script>" not in to_html(table)
    assert "&lt;script&gt;" in to_html(table)


def test_html_has_caption_scopes_and_groups(entries):
    page = to_html(headline(entries))
    assert "<caption>" in page
    assert 'scope="row"' in page
    assert 'scope="colgroup"' in page
    assert page.count("<tr>") == 2 + 4


def test_csv_keeps_full_precision(entries):
    lines = list(csv.DictReader(io.StringIO(to_csv(headline(entries)))))
    assert float(lines[0]["Clean: Recall@20"]) == pytest.approx(0.21, abs=1e-15)
    assert float(lines[0]["Clean: Recall@20 std"]) == pytest.approx(0.02 / 2**0.5)
    assert lines[3]["PGD on visual at 5 %: change"] == ""


def read_latex(text):
    """The cells of a table and its notes, read strictly: whatever TeX would stumble over is an error."""
    assert re.sub(r"\\[{}\\$&#_%]", "", text).count("$") % 2 == 0
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    # With commands, escapes and formulas gone, no character is left that means something to TeX.
    plain = re.sub(r"\$[^$]*\$", "", re.sub(r"\\([{}$&#_%\\])", "", text))
    assert not set("#$%_^~<>|`") & set(plain)
    commands = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert commands <= {
        "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "multicolumn", "cmidrule", "par",
        "smallskip", "linewidth", "footnotesize", "textbackslash", "textasciitilde", "textasciicircum", "textless",
        "textgreater", "textbar", "textasciigrave", "pm", "dag", "blacktriangle", "blacktriangledown",
    }  # fmt: skip
    body = re.search(r"\\midrule\n(.*)\\bottomrule", text, re.S).group(1)
    assert not re.search(r"\\\\\s*[\[*]", text)
    lines = [line for line in body.split("\n") if line]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines]


def test_latex_escapes_whatever_stands_in_a_name():
    hostile = "*[a]{b}\\$&#_%~^<>|`\"'\n2"
    marks = "\N{MINUS SIGN}1.0 ± 0.5 % \N{DAGGER} \N{BLACK UP-POINTING TRIANGLE}\N{BLACK DOWN-POINTING TRIANGLE}"
    columns = [Column(hostile), Column(hostile, hostile, "value"), Column("x", hostile, "change")]
    cell = (hostile, None, None)
    table = Table.from_cells(hostile, columns, [[cell, cell, (marks, -1.0, 0.5)]] * 2, [hostile, marks])
    text = to_latex(table)
    rows = read_latex(text)
    assert [len(row) for row in rows] == [3, 3]
    assert rows[0][0].startswith(r"{*}{[}a{]}\{b\}\textbackslash{}\$\&\#\_\%\textasciitilde{}\textasciicircum{}")
    assert rows[0][2] == r"$-$1.0 $\pm$ 0.5 \% \dag{} $\blacktriangle$$\blacktriangledown$"
    assert text.count(r"\par" + "\n") == 2


def test_latex_groups_and_numbers(entries):
    table = headline(entries)
    text = to_latex(table)
    rows = read_latex(text)
    assert [len(row) for row in rows] == [len(table.columns)] * len(table.rows)
    assert r"\begin{tabular}{llrrrrr}" in text
    assert r" &  & \multicolumn{1}{c}{Clean} & \multicolumn{2}{c}{PGD on textual at 5 \%} & " in text
    assert r"\cmidrule(lr){3-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7}" in text
    assert rows[0][2] == r"0.2100 $\pm$ 0.0141"
    assert to_latex(Table.from_cells("t", [Column("a")], [])).count("cmidrule") == 0
