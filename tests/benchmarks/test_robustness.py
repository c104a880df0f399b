"""The page of robustness results says what the entries hold, and costs are measured on real passes."""

import copy
import sys

import pytest

import mmgraph_robust as mr
from benchmarks.robustness import cost, table
from mmgraph_robust.attacks import PGD, Noise, Suite
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import RunConfig, run
from mmgraph_robust.experiment.report import without_users
from mmgraph_robust.reporting import read_entries
from mmgraph_robust.utils import write_json

CONFIG = {
    "name": "shop",
    "data": {"format": "synthetic", "num_users": 60, "num_items": 40},
    "training": {"max_epochs": 2},
    "models": [
        {"name": "VBPR", "embedding_dim": 8},
        {"name": "LATTICE", "embedding_dim": 8, "knn_k": 3},
        {"name": "LightGCN", "embedding_dim": 8},
    ],
    "defenses": [{"name": "none"}],
    "attacks": [
        {"name": "Noise", "budgets": [0.05], "modalities": ["all"]},
        {"name": "SingleStep", "budgets": [0.05], "modalities": ["all"], "graphs": ["frozen", "rebuilt"]},
        {"name": "PGD", "steps": 2, "budgets": [0.05], "graphs": ["frozen", "rebuilt"]},
        {"name": "Suite", "budgets": [0.05, 0.5]},
        {"name": "Suite", "budgets": [0.05], "modalities": ["all"], "graphs": ["frozen"]},
        {"name": "Suite", "budgets": [0.1], "modalities": ["all"], "goals": [{"name": "Promote", "count": 2}]},
    ],
}
SUITES = sys.modules[Suite.__module__].SUITES


def two_attacks(problem, surrogates):
    return [("PGD", PGD(4)), ("noise", Noise())]


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "standard", two_attacks)
        return run(RunConfig(CONFIG), tmp_path_factory.mktemp("run"), progress=False)


def rows(text):
    head, _, *body = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}


def recall(entries, model, attack, budget=0.05, graph="rebuilt", modalities=("visual", "textual")):
    entry = next(e for e in entries if e["model"] == model)
    (found,) = (
        a for a in entry["attacks"]
        if (a["attack"], a["budget"], a["graph"], a["goal"]["name"]) == (attack, budget, graph, "Untargeted")
        and sorted(a["modalities"]) == sorted(modalities)
    )  # fmt: skip
    return found["metrics"]["recall@20"], entry["clean"]["metrics"]["recall@20"], found


def test_all_attacks_side_by_side(entries):
    found = rows(table.joint_table(entries))
    assert set(found) == {"VBPR", "LATTICE", "LightGCN"}
    left, clean, suite = recall(entries, "VBPR", "Suite")
    step = recall(entries, "VBPR", "SingleStep")[0]
    line = found["VBPR"]
    assert (line["clean"], line["suite"], line["single step"]) == (f"{clean:.4f}", f"{left:.4f}", f"{step:.4f}")
    assert line["each user's worst"] == f"{suite['details']['worst_per_user']['recall@20']:.4f}"
    assert line["by one step"] == ("" if left == clean else f"{100 * (clean - step) / (clean - left):.0f} %")
    assert found["LightGCN"]["noise"] == "reads no features"


def test_budgets_and_modalities(entries):
    found = rows(table.budget_table(entries, "Suite"))
    assert set(found) == {"VBPR", "LATTICE"}
    assert set(found["VBPR"]) == {"backbone", "clean", "5 %", "50 %"}
    assert found["VBPR"]["50 %"].startswith(f"{recall(entries, 'VBPR', 'Suite', 0.5)[0]:.4f} (")
    alone = rows(table.modality_table(entries))["LATTICE"]
    values = {m: recall(entries, "LATTICE", "Suite", modalities=[m])[0] for m in ("visual", "textual")}
    assert all(alone[f"suite on {m}"].startswith(f"{x:.4f}") for m, x in values.items())
    assert values[alone["worst"]] == min(values.values())


def test_only_graphs_that_differ_are_compared(entries):
    text = table.graph_table(entries)
    assert "VBPR" not in text
    changed = copy.deepcopy(entries)
    (lattice,) = (e for e in changed if e["model"] == "LATTICE")
    recall(changed, "LATTICE", "PGD", graph="frozen")[2]["metrics"]["recall@20"] = 0.125
    assert rows(table.graph_table([lattice]))["LATTICE"]["PGD, frozen"].startswith("0.1250")


def test_promotion_and_doubts(entries):
    found = rows(table.promotion_table(entries))
    assert set(found) == {"VBPR", "LATTICE"}
    assert (found["VBPR"]["items"], found["VBPR"]["budget"]) == ("2", "10 %")
    changed = copy.deepcopy(entries)
    for attack in changed[0]["attacks"]:
        attack["flags"] = {"ignored_modality": "explains"}
    assert "doubtful" in table.doubts(changed[:1])
    for attack in changed[0]["attacks"]:
        attack["flags"] = {"no_gradient": "nothing to follow"}
    text = table.doubts(changed[:1])
    assert text.count("\n") == 0
    assert "`no_gradient`" in text
    assert "more): nothing to follow" in text


def test_entries_without_an_attack_yet_have_empty_cells(entries):
    changed = copy.deepcopy(entries)
    for entry in changed:
        entry["attacks"] = []
    line = rows(table.joint_table(changed))["VBPR"]
    assert (line["suite"], line["each user's worst"]) == ("", "")
    for part in (table.modality_table, table.graph_table, table.promotion_table, table.doubts):
        part(changed)
    table.budget_table(changed, "Suite")


def test_an_unknown_backbone_has_no_cost():
    with pytest.raises(ConfigError, match="unknown backbone 'VBRP'; did you mean 'VBPR'"):
        cost.main("hm", only="VBRP")


def test_page_and_picture(entries, tmp_path):
    for entry in entries:
        write_json(tmp_path / "shop" / f"{entry['model']}.json", entry)
    (tmp_path / "empty").mkdir()
    cost_of = {"training_step": 0.01, "attack_step": {"frozen": 0.012, "rebuilt": 0.02}, "suite": 61.0}
    write_json(
        tmp_path / "cost.json",
        {"device": "cpu", "dataset": "shop", "threads": 1, "repeats": 3, "models": {"VBPR": cost_of}},
    )
    text = table.page(tmp_path)
    assert "## shop" in text
    assert "## empty" not in text
    assert "| VBPR | 10.0 | 12.0 | 1.20 | 20.0 | 2.00 | 61 |" in text
    assert (tmp_path / "shop.png").read_bytes().startswith(b"\x89PNG")
    assert "LATTICE" in (tmp_path / "shop" / "full.md").read_text()


def test_costs_are_those_of_real_passes(monkeypatch):
    data = mr.synthetic(num_users=40, num_items=30)
    monkeypatch.setitem(SUITES, "standard", two_attacks)
    monkeypatch.setattr(cost, "_STEPS", (1, 30))
    model = mr.models.FREEDOM.from_data(data, embedding_dim=8, knn_k=3)
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    found = cost._cost(model, data, repeats=3)
    assert found["training_step"] > 0
    assert set(found["attack_step"]) == {"frozen", "rebuilt"}
    assert found["suite"] > 0
    assert all(weights[name].equal(x) for name, x in model.state_dict().items())


def test_a_run_is_kept_as_a_file_for_each_training(tmp_path):
    models = [{"name": "VBPR", "embedding_dim": 4}]
    small = CONFIG | {"models": models, "attacks": [{"name": "Noise"}, {"name": "PGD", "steps": 2}]}
    entries = run(RunConfig(small), tmp_path / "run", progress=False)
    (path,) = table.keep(tmp_path / "run", tmp_path / "results")
    assert path == tmp_path / "results" / "shop" / "VBPR-none-seed0.json"
    assert read_entries(path.parent) == [without_users(entry) for entry in entries]
    assert '"per_user":' not in path.read_text()
