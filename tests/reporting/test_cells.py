"""What tables are made of."""

from __future__ import annotations

import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.reporting import Table, headline
from mmgraph_robust.reporting.cells import difference_cell, format_change, metric_label


def test_labels():
    assert [metric_label(m) for m in ("recall@20", "ndcg@10", "hit_rate@5")] == ["Recall@20", "NDCG@10", "Hit rate@5"]
    assert format_change(-0.01) == "0.0 %"
    assert format_change(2.0) == "+2.0 %"


def test_a_difference_has_its_sign_unless_it_rounds_to_nothing():
    assert difference_cell(0.01234) == ("+0.0123", 0.01234, None)
    assert difference_cell(-0.01234)[0] == "\N{MINUS SIGN}0.0123"
    assert difference_cell(-0.00001)[0] == "0.0000"
    assert difference_cell(None)[1] is None


def test_ragged_table_is_refused(entries):
    table = headline(entries)
    with pytest.raises(ConfigError, match="as many cells"):
        Table("t", table.columns, (("x",),), ((None,),), ((None,),))
