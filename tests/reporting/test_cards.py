"""A card tells one entry."""

from __future__ import annotations

import json

from mmgraph_robust.reporting.cards import make_cards

KEPT = {
    ("PGD", "visual", 0.05): 0.5, ("SingleStep", "visual", 0.05): 0.8, ("Noise", "visual", 0.05): 0.99,
    ("PGD", "textual", 0.05): 0.9, ("Noise", "textual", 0.1): 0.98,
}  # fmt: skip


def test_the_strongest_attack_of_each_threat(entry):
    (card,) = make_cards([entry(kept=KEPT)])
    (table,) = card.tables
    assert [column.label for column in table.columns][2:] == [
        "Strongest attack", "of", "Recall@20", "change", "change by noise",
    ]  # fmt: skip
    assert table.rows == (
        ("textual", "5 % per item", "PGD", "1", "0.1800", "\N{MINUS SIGN}10.0 %", "\N{EN DASH}"),
        ("textual", "10 % per item", "\N{EN DASH}", "0", "\N{EN DASH}", "\N{EN DASH}", "\N{MINUS SIGN}2.0 %"),
        ("visual", "5 % per item", "PGD", "2", "0.1000", "\N{MINUS SIGN}50.0 %", "\N{MINUS SIGN}1.0 %"),
    )
    assert card.headline == "Recall@20 0.2000, attacked 5 times"
    assert not card.doubtful


def test_facts(entry):
    (card,) = make_cards([entry(kept=KEPT, memory_mb=812.4, key="abc", trained="def")])
    assert card.facts["Recall@20"] == "0.2000"
    assert card.facts["Training"] == "8 epochs, the best is epoch 7, Recall@20 0.1700 on validation, 10.0 s"
    assert card.facts["Attacks"] == "5, 15.5 s"
    assert card.facts["Memory"] == "812 MB at most"
    assert (card.facts["Key"], card.facts["Key of the training"]) == ("abc", "def")
    assert card.facts["Sensitive modality"] == "visual by score margin, visual by metric"
    assert json.loads(card.made)["config"] == {"model": {"embedding_dim": 64}}
    bare = entry(sensitive=None)
    bare["training"] |= {"epochs": None, "best_epoch": None, "seconds": None, "best_validation": None}
    (card,) = make_cards([bare])
    assert card.facts["Training"] == "time unknown"
    assert {"Memory", "Key", "Attacks", "Sensitive modality"}.isdisjoint(card.facts)
    assert card.tables == ()
    assert card.headline.endswith("not attacked")


def test_attacks_by_other_code_are_told(entry):
    one = entry(kept=KEPT)
    (card,) = make_cards([one])
    assert "Later attacks" not in card.facts
    assert "attacks" not in json.loads(card.made)
    one["attacks"][0]["provenance"] = one["provenance"] | {"commit": "def"}
    (card,) = make_cards([one])
    assert card.facts["Later attacks"].startswith("1 of 5 attacks by other code than the training")
    assert json.loads(card.made)["attacks"] == {"PGD on visual at 5 % per item": one["attacks"][0]["provenance"]}


def test_flags_are_told_once_with_examples(entry):
    one = entry(kept=KEPT)
    for k, attack in enumerate(one["attacks"]):
        attack["flags"] = {"weaker_than_noise": f"text {k}"}
    one["attacks"][0]["flags"]["graph_path_only"] = "through the graph"
    (card,) = make_cards([one])
    assert card.doubtful
    first, second = sorted(card.flags)
    assert first.startswith("graph_path_only, under 1 of 5 attacks: through the graph (PGD on visual at 5 %")
    assert second.startswith("† weaker_than_noise, under 5 of 5 attacks: text 3 (PGD on textual")
    assert second.count("text ") == 3
    assert card.tables[0].rows[0][4] == "0.1800 †"


def test_what_each_modality_carries(entry):
    carries = {"visual": {"clean": 0.2, "mean_features": 0.15, "permuted_features": 0.14, "only_channel": 0.1}}
    (card,) = make_cards([entry(carries=carries)])
    (table,) = card.tables
    assert table.rows == (("visual", "0.2000", "0.1500", "0.1400", "n/a", "0.1000"),)


def test_order_and_models_that_read_nothing(entries):
    cards = make_cards(entries)
    assert [card.id for card in cards] == [f"card-{k}" for k in range(len(entries))]
    assert [card.line[1] for card in cards] == ["GRCN"] * 6 + ["LightGCN"] * 2
    assert [card.entry["seed"] for card in cards[:2]] == [0, 1]
    assert cards[-1].headline == "Recall@20 0.1500, cannot be attacked through features"
    assert cards[-1].tables == ()
