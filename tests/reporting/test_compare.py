"""Two sets of results side by side."""

from __future__ import annotations

import copy
import json
import subprocess

import pytest

from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.reporting import ResultComparison, Setting, compare, holm
from mmgraph_robust.reporting.compare import compare_entries
from mmgraph_robust.utils import write_json

VISUAL, TEXTUAL = ("PGD", "visual", 0.05), ("PGD", "textual", 0.05)
PGD = Setting("PGD", ("visual",), "item", "l2", 0.05)


@pytest.fixture
def results(entry, with_users):
    """Three seeds of two models, undefended."""

    def make(**changes):
        values = {"GRCN": 0.3, "VBPR": 0.2} | changes
        return [
            with_users(entry(model, seed=seed, clean=value, kept={VISUAL: 0.5}))
            for model, value in values.items()
            for seed in range(3)
        ]

    return make


def verdicts(found):
    return {(c.model, "clean" if c.setting is None else c.setting.short): found.verdict(c) for c in found.cells}


def save(folder, entries):
    for number, entry in enumerate(entries):
        write_json(folder / f"{number}.json", entry)


def test_the_same_is_identical(results):
    found = compare_entries(results(), results())
    assert isinstance(found, ResultComparison)
    assert set(verdicts(found).values()) == {"identical"}
    assert len(found.cells) == 4
    assert found.tables == []
    assert found.sentences == [
        "A is A, B is B; they share 6 trainings.",
        "Recall@20 of B against A in 4 cells: 4 identical.",
        "Configuration and provenance are the same.",
    ]


def test_better_worse_and_noise_are_told_apart(results, entry, with_users):
    better = results(GRCN=0.4)
    # Another training of the same quality: other users are hit, as many as before.
    noise = copy.deepcopy(results())
    for e in noise:
        e["defense"] = "other luck"
        with_users(e)
        e["defense"] = "none"
    found = compare_entries(
        results(), [e for e in better if e["model"] == "GRCN"] + [e for e in noise if e["model"] == "VBPR"]
    )
    assert verdicts(found) == {
        ("GRCN", "clean"): "better",
        ("GRCN", "PGD on visual at 5 %"): "better",
        ("VBPR", "clean"): "within noise",
        ("VBPR", "PGD on visual at 5 %"): "within noise",
    }
    assert [c.corrected for c in found.cells] == holm([c.test.p for c in found.cells])
    assert any("B is better in GRCN with defense none on hm, clean (+0.1000); GRCN" in s for s in found.sentences)
    back = compare_entries(better, results())
    assert verdicts(back)["GRCN", "clean"] == "worse"
    assert verdicts(back)["VBPR", "clean"] == "identical"
    (table,) = back.tables
    assert [row[1] for row in table.rows] == ["GRCN", "GRCN"]
    assert [column.label for column in table.columns[4:6]] == ["A", "B"]
    assert table.notes[0] == "2 cells without any difference are not shown."


def test_old_results_have_means_only(entry):
    a, b = [entry(seed=0), entry("VBPR", seed=0)], [entry(seed=0, clean=0.3), entry("VBPR", seed=0)]
    found = compare_entries(a, b)
    assert set(verdicts(found).values()) == {"means only"}
    assert [row[1] for row in found.tables[0].rows] == ["GRCN"]
    (said,) = [s for s in found.sentences if "only means" in s]
    assert "In 2 cells only means can be compared (no values of Recall@20 per user): equal in 1; GRCN" in said
    assert any("all are equal" in s for s in compare_entries(a, a).sentences)


def test_what_was_done_differently_is_said_key_by_key(results):
    b = results()
    for e in b:
        e["config"] = {"model": {"embedding_dim": 64}, "training": {"learning_rate": 0.003}}
    b[0]["provenance"] = b[0]["provenance"] | {"commit": "def", "created": "2027-01-01"}
    found = compare_entries(results(), b)
    assert {c.key: (c.before, c.after, len(c.trainings)) for c in found.changes} == {
        "training.learning_rate": ("\N{EN DASH}", 0.003, 6),
        "commit": ("abc", "def", 1),
    }
    (table,) = found.tables
    assert table.rows[0] == ("training.learning_rate", "\N{EN DASH}", "0.003", "all")
    assert table.rows[1] == ("commit", "abc", "def", "1 of 6: GRCN with defense none on hm, seed 0")
    assert any("training.learning_rate \N{EN DASH} -> 0.003; commit abc -> def" in s for s in found.sentences)


def test_attacks_with_other_arguments_are_one_setting_and_a_change(results):
    a, b = results(), results()
    for e in a:
        e["attacks"][0]["arguments"] = {"steps": 10}
    for e in b:
        e["attacks"][0]["arguments"] = {"steps": 50}
    found = compare_entries(a, b)
    assert len(found.cells) == 4
    assert [str(change) for change in found.changes] == ["attacks.PGD.steps 10 -> 50"]


def test_what_else_was_run_beside_an_attack_does_not_hide_it(results):
    a, b = results(), results()
    for e in (*a, *b):
        e["attacks"][0]["arguments"] = {"steps": 10}
    for e in b:
        more = copy.deepcopy(e["attacks"][0]) | {"arguments": {"steps": 50}}
        e["attacks"].insert(0, more)
    found = compare_entries(a, b)
    assert set(verdicts(found).values()) == {"identical"}
    assert len(found.cells) == 4
    assert found.changes == ()
    assert found.only_b[0] == "GRCN with defense none on hm, seed 0: PGD (steps=50) on visual at 5 % per item"
    back = compare_entries(b, a)
    assert len(back.cells) == 4
    assert len(back.only_a) == 6


def on_items(entries, *targets):
    """The entries, whose attack was run on each of the targets, with other outcomes."""
    for e in entries:
        (attack,) = e["attacks"]
        e["attacks"] = [
            copy.deepcopy(attack) | {"items": [target, 0], "margins": {"id": float(target)}} for target in targets
        ]
    return entries


def test_attacks_on_other_targets_are_no_one_attack(results):
    found = compare_entries(on_items(results(), 1, 2), on_items(results(), 1, 2))
    assert (len(found.cells), found.only_a, found.only_b, found.changes) == (6, (), (), ())
    # The order says nothing: what is the same is found.
    turned = compare_entries(on_items(results(), 1, 2), on_items(results(), 2, 1))
    assert (len(turned.cells), turned.only_a, turned.only_b, turned.changes) == (6, (), (), ())
    fewer = compare_entries(on_items(results(), 2), on_items(results(), 1, 2))
    assert fewer.changes == ()
    assert fewer.only_b[0] == "GRCN with defense none on hm, seed 0: PGD #2 on visual at 5 % per item"
    other = compare_entries(on_items(results(), 1), on_items(results(), 2))
    assert [str(change) for change in other.changes] == ["attacks.PGD.items [1, 0] -> [2, 0]"]
    assert not any("are the same" in sentence for sentence in other.sentences)


def test_attacks_by_other_code_are_a_change(results):
    b = results()
    for e in b:
        e["attacks"][0]["provenance"] = e["provenance"] | {"commit": "def"}
    found = compare_entries(results(), b)
    assert [str(change) for change in found.changes] == ["attacks.PGD.commit abc -> def"]


def test_what_only_one_has_is_listed(results, entry):
    a, b = results(), results()
    a.append(entry("LightGCN"))
    b[0]["attacks"] = []
    found = compare_entries(a, b)
    assert found.only_a == (
        "LightGCN with defense none on hm, seed 0",
        "GRCN with defense none on hm, seed 0: PGD on visual at 5 % per item",
    )
    assert found.only_b == ()
    assert next(c for c in found.cells if (c.model, c.setting) == ("GRCN", PGD)).seeds == (1, 2)
    assert found.tables[-1].rows[0] == ("A", "LightGCN with defense none on hm, seed 0")
    nothing = compare_entries(a[:1], b[1:])
    assert nothing.sentences[0] == "A is A, B is B; they share no trainings."
    assert nothing.cells == ()


def test_other_data_are_no_comparison_of_models(results, entry, with_users):
    b = results(GRCN=0.4)
    for e in b:
        e["provenance"] = e["provenance"] | {"data_hash": "d2"}
    toys = with_users(entry(dataset="toys"))
    found = compare_entries([*results(), toys], [*b, toys])
    assert [c.dataset for c in found.cells] == ["toys"]
    assert found.other_data == {"hm": ("d1", "d2")}
    assert "'hm' is not the same data in A and B (data hash d1 and d2)" in found.sentences[1]
    assert "no comparison of models" in found.sentences[1]
    assert [change.key for change in found.changes] == ["data_hash"]
    mixed = results()
    mixed[0]["provenance"] = mixed[0]["provenance"] | {"data_hash": "d2"}
    with pytest.raises(CheckpointError, match="other data"):
        compare_entries(mixed, results())


def test_doubts_of_either_side_are_marked(results):
    a, b = results(), results(GRCN=0.4)
    a[0]["attacks"][0]["flags"] = {"zero_gradient": "no gradient"}
    table = compare_entries(a, b).tables[0]
    assert [row[-1] for row in table.rows] == ["better", "better \N{DAGGER}"]
    assert any("zero_gradient (in A)" in note for note in table.notes)


def test_metrics(results):
    with pytest.raises(ConfigError, match="did you mean 'recall@20'"):
        compare_entries(results(), results(), "recal@20")
    found = compare_entries(results(), results(), "ndcg@20")
    assert {c.untested for c in found.cells} == {"no values of NDCG@20 per user"}


def test_plain_data(results):
    found = compare_entries(results(), results(GRCN=0.4), names=("x", "y"))
    plain = json.loads(json.dumps(found.describe()))
    assert (plain["a"], plain["b"], plain["metric"]) == ("x", "y", "recall@20")
    cell = plain["cells"][0]
    assert (cell["model"], cell["setting"], cell["verdict"], cell["seeds"]) == ("GRCN", "clean", "better", [0, 1, 2])
    assert cell["difference"] == pytest.approx(0.1)
    assert cell["test"]["low"] < 0.1 < cell["test"]["high"]
    assert plain["cells"][1]["setting"] == PGD.label


def test_folders_and_commits(results, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "results", results())
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "first"], check=True)
    save(tmp_path / "results", results(VBPR=0.1))
    found = compare("HEAD:results", tmp_path / "results")
    assert verdicts(found)["VBPR", "clean"] == "worse"
    assert verdicts(found)["GRCN", "clean"] == "identical"
    assert found.sentences[0].startswith(f"A is HEAD:results, B is {tmp_path / 'results'}; they share 6")
    one = compare("results/3.json", "HEAD:results")
    assert {(c.model, c.seeds) for c in one.cells} == {("VBPR", (0,))}
    assert len(one.only_b) == 5
