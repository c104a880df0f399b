"""The leaderboard says what the rows say."""

from __future__ import annotations

import json

import pytest

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.reporting import summarize
from mmgraph_robust.reporting.board import make_board

VISUAL = ("PGD", "visual", 0.05)


def _joint(entry, modalities=("visual", "textual"), kept=0.5, attack="PGD", budget=0.05, flags=None):
    """Adds an attack on several modalities, and one on each alone, to an entry."""
    clean = entry["clean"]["metrics"]
    for attacked, part in [(list(modalities), kept), *(([m], (1 + kept) / 2) for m in modalities)]:
        values = {name: part * value for name, value in clean.items()}
        entry["attacks"].append({
            "attack": attack, "modalities": attacked, "budget": budget, "scope": "item", "norm": "l2", "seconds": 1.0,
            "metrics": values, "margins": entry["clean"]["margins"], "flags": (flags or {}) if part == kept else {},
        })  # fmt: skip
    return entry


def test_lines_and_order(entries):
    board = make_board(summarize(entries))
    assert [line.clean.line[1:] for line in board.lines] == [
        ("GRCN", "ModalityBalancing"), ("GRCN", "none"), ("GRCN", "AdversarialTraining"), ("LightGCN", "none"),
    ]  # fmt: skip
    assert board.default == ("textual, 5 % per item", "PGD")
    assert list(board.threats) == [f"{m}, {b} % per item" for m in ("textual", "visual") for b in (5, 10)]
    assert board.threats["visual, 5 % per item"] == ("PGD", "SingleStep", "Noise")
    assert board.controls == {"Noise"}
    first = board.shown(board.lines[0])
    assert first is not None
    assert first.mean["recall@20"] > board.lines[1].runs[board.default].mean["recall@20"]
    assert board.shown(board.lines[-1]) is None


def test_a_joint_threat_is_one_threat_on_data_sets_with_other_modalities(entry):
    hm = _joint(entry("A", dataset="hm"))
    tiktok = _joint(entry("B", dataset="tiktok"), ("visual", "acoustic"), kept=0.25)
    board = make_board(summarize([hm, tiktok]))
    assert board.default == ("all modalities, 5 % per item", "PGD")
    assert [board.shown(line).mean["recall@20"] for line in board.lines] == pytest.approx([0.1, 0.05])
    assert board.modalities == {"hm": ("textual", "visual"), "tiktok": ("acoustic", "visual")}


def test_a_single_modality_is_not_called_all(entry):
    board = make_board(summarize([entry(kept={VISUAL: 0.5})]))
    assert board.default == ("visual, 5 % per item", "PGD")
    assert board.modalities == {}


def test_some_modalities_are_not_called_all(entry):
    """A file may name those that are attacked."""
    one = _joint(entry(), ("visual", "textual"))
    one["carries"] = {name: {"clean": 0.2} for name in ("visual", "textual", "acoustic")}
    board = make_board(summarize([one]))
    assert board.default == ("textual + visual, 5 % per item", "PGD")
    assert board.modalities == {}


def test_the_default_is_the_strongest_attack_at_the_lowest_budget(entry):
    one = _joint(_joint(_joint(entry(), kept=0.6), kept=0.5, attack="Suite"), kept=0.1, attack="Suite", budget=0.1)
    assert make_board(summarize([one])).default == ("all modalities, 5 % per item", "Suite")


def test_flags_and_floor(entry):
    doubted = _joint(entry("A"), flags={"zero_gradient": "no gradient", "graph_path_only": "through the graph"})
    sound = _joint(entry("B"), kept=0.9)
    floor = entry("F", clean=0.15, feature_path="none", sensitive=None)
    board = make_board(summarize([doubted, sound, floor]))
    lines = {line.clean.model: line for line in board.lines}
    assert [line.clean.model for line in board.lines] == ["B", "A", "F"]
    assert (lines["A"].doubtful, lines["B"].doubtful) == (1, 0)
    assert lines["A"].is_below_floor(board.shown(lines["A"]), "recall@20")
    assert not lines["B"].is_below_floor(board.shown(lines["B"]), "recall@20")
    assert not lines["F"].is_below_floor(lines["F"].clean, "recall@20")
    described = board.describe()
    assert described["texts"] == ["zero_gradient: no gradient", "graph_path_only: through the graph"]
    place = described["threats"].index(["all modalities, 5 % per item", [0]])
    runs = {run[0]: run[1:] for run in described["runs"][f"{place} 0"]}
    assert runs == {0: [0.18, None, -10.0, None, 1, [], [], ""], 1: [0.1, None, -50.0, None, 1, [0], [1], "below F"]}
    assert described["lines"][1] == {"clean": 0.2, "seeds": 1, "doubtful": 1, "reads": True}
    json.dumps(described, allow_nan=False)


def test_the_floor_is_that_of_the_same_seeds(entry):
    floor = [entry("F", seed=s, clean=0.1 * (s + 1), feature_path="none", sensitive=None) for s in (0, 1)]
    line = next(x for x in make_board(summarize([entry("A", kept={VISUAL: 0.6}), *floor])).lines if x.reads)
    # 0.12 is less than F has on average, and more than it has with the same seed.
    assert line.below(line.runs["visual, 5 % per item", "PGD"], "recall@20") == ""
    apart = make_board(summarize([entry("A", kept={VISUAL: 0.1}), floor[1]])).lines[0]
    assert apart.is_below_floor(apart.runs["visual, 5 % per item", "PGD"], "recall@20") is None


def test_nothing_attacked(entry):
    board = make_board(summarize([entry(), entry(model="Z", clean=0.0)]))
    assert board.default is None
    assert board.threats == {}
    assert [board.shown(line) for line in board.lines] == [None, None]


def test_what_is_wrong_is_said(entry):
    with pytest.raises(DataError):
        make_board([])
    with pytest.raises(ConfigError, match=r"recall@20"):
        make_board(summarize([entry()]), "recal@20")
