"""The table of promotions."""

from __future__ import annotations

from mmgraph_robust.reporting import goal_table, write_page


def promoting(entry, seed, before, after):
    made = entry(seed=seed, kept={("PGD", "visual", 0.1): 0.99, ("Noise", "visual", 0.1): 0.99})
    made["attacks"][0] |= {
        "goal": {"name": "Promote", "users": None, "k": 20, "items": [4, 5]},
        "measure": {"exposure@20": {"clean": before, "attacked": after}},
    }
    made["attacks"][1] |= {"goal": {"name": "Untargeted", "users": None, "k": 20}, "measure": {}}
    return made


def test_exposure_before_and_after_over_seeds(entry, tmp_path):
    entries = [promoting(entry, 0, 0.01, 0.4), promoting(entry, 1, 0.03, 0.5)]
    table = goal_table(entries)
    assert len(table.rows) == 1
    assert table.rows[0][:3] == ("hm", "GRCN", "none")
    assert table.rows[0][4:8] == ("promote 2 items", "all users", "Exposure@20", "2")
    assert table.rows[0][8:] == ("0.0200 ± 0.0141", "0.4500 ± 0.0707")
    write_page(entries, tmp_path / "page.html")
    assert "promote 2 items" in (tmp_path / "page.html").read_text()


def test_untargeted_attacks_have_no_part_in_it(entries, tmp_path):
    assert goal_table(entries).rows == ()
    write_page(entries, tmp_path / "page.html")
    assert "Promotion and hiding" not in (tmp_path / "page.html").read_text()
