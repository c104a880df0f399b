from mmgraph_robust.reporting import published_table
from mmgraph_robust.reporting.cells import MISSING, format_change

PUBLISHED = {"source": "a table", "tolerance": 0.06, "values": {"GRCN": {"recall@20": 0.2}, "VBPR": {"recall@20": 0.1}}}


def test_means_differences_and_verdicts(entries):
    table = published_table(entries, PUBLISHED)
    grcn, vbpr = table.rows
    # 0.20 and 0.22 over two seeds, undefended only.
    assert grcn == ("GRCN", "Recall@20", "0.2000", "0.2100 ± 0.0141", format_change(5.0), "2", "yes")
    assert vbpr[3:] != grcn[3:]
    assert "a table" in table.notes[0]


def test_above_below_and_missing(entries):
    values = {"GRCN": {"recall@20": 0.3}, "MMGCN": {"recall@20": 0.1}}
    table = published_table(entries, PUBLISHED | {"values": values})
    assert table.rows[0][4:] == (format_change(-30.0), "2", "below")
    assert table.rows[1][3:] == (MISSING,) * 4
    assert published_table(entries, PUBLISHED | {"values": {"GRCN": {"recall@20": 0.1}}}).rows[0][-1] == "above"
