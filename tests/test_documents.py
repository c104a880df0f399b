"""What the documents show works as it stands there."""

import re
from pathlib import Path

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust import experiment

ROOT = Path(__file__).resolve().parents[1]
HITS = torch.linspace(0, 1, 500)


def code(path):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.S)


def test_the_readme(capsys):
    """With fewer epochs."""
    (block,) = code("README.md")
    exec(block.replace(", seed=0)\n", ", seed=0, max_epochs=2, progress=False)\n"), {})
    assert "'recall@20'" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["api", "benchmarks", "data", "own_attack_or_defense", "tuning"])
def test_every_other_snippet_runs(page, tmp_path, monkeypatch, capsys):
    """Each on its own, in an empty folder; it prints what it promises to."""
    monkeypatch.chdir(tmp_path)
    blocks = code(f"docs/{page}.md")
    assert blocks
    for block in blocks:
        exec(block, {"__name__": "__main__"})
        assert capsys.readouterr().out


def test_no_page_has_a_snippet_that_is_not_run():
    tested = Path(__file__).read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert not code(f"docs/{path.name}") or f'"{path.stem}"' in tested or f"docs/{path.name}" in tested, path.name


def test_own_model(capsys):
    block, module = code("docs/own_model.md")
    space = {"__name__": "own"}
    exec(block, space)
    plain, defended = ([float(x) for x in line.split()] for line in capsys.readouterr().out.splitlines())
    assert plain[1] / plain[0] < 0.3
    assert defended[1] / defended[0] > 0.5
    exec(module, {"__name__": "own"})
    assert float(capsys.readouterr().out) > 0
    mr.testing.check_model(space["MeanOfItems"].from_data(space["data"]), space["data"], uses_graph=False)


def test_how_to_read_robustness(capsys):
    threat, block = code("docs/robustness.md")
    exec(threat, {})
    first, second = capsys.readouterr().out.splitlines()
    assert "recall@20" in first
    before, after = (float(value) for value in re.findall(r"'exposure@5': ([\d.]+)", second))
    assert after > before
    exec(block, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["Noise", "PGD", "GraphRelaxation", "NeighbourSwap"]
    assert len({line.split()[1] for line in lines[:4]}) == 1
    clean, certified, further = (float(x) for x in lines[4].split())
    assert clean >= certified >= further


def test_which_defense(capsys):
    listwise, item_graph, soft_neighbours = code("docs/defenses.md")
    exec(listwise, {})
    printed = capsys.readouterr().out
    before, after = (float(value) for value in re.findall(r"'recall@20': ([\d.]+)", printed)[:2])
    assert before >= after
    exec(item_graph, {})
    assert 0 < float(capsys.readouterr().out) < 1
    scope = {}
    exec(soft_neighbours, scope)
    # It trains on features that reach the score through the choice of neighbours.
    assert 0 < mr.evaluate(scope["model"], scope["data"])["recall@20"] < 1


def test_the_run_file(tmp_path):
    """With one seed, and less of all that takes time."""
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.S)
    (tmp_path / "shop.toml").write_text(shown)
    assert len(experiment.read_config(tmp_path / "shop.toml").seeds) > 1
    short = experiment.read_config(
        tmp_path / "shop.toml", ["seeds=[0]", "training.max_epochs=1", "attacks.PGD.steps=1"]
    )
    entries = experiment.run(short, tmp_path / "run", progress=False)
    assert {(entry["model"], entry["defense"]) for entry in entries} == {
        ("VBPR", "none"), ("VBPR", "ModalityBalancing"), ("GRCN", "none"),
    }  # fmt: skip
    assert {(a["attack"], *a["modalities"]) for entry in entries for a in entry["attacks"]} == {
        ("PGD", "visual"), ("PGD", "visual", "textual"), ("Noise", "visual", "textual"),
    }  # fmt: skip


def made_up(defense, clean):
    """A result entry of the smallest kind."""
    measured = {"metrics": {"recall@20": clean}, "margins": {}, "per_user": {"recall@20": mr.utils.pack(clean > HITS)}}
    training = {"epochs": 1, "best_epoch": 0, "seconds": 1.0, "best": None, "monitor": None, "history": []}
    return {
        "schema": 1, "dataset": "shop", "model": "VBPR", "defense": defense, "seed": 0, "config": {},
        "provenance": {"data_hash": "d"}, "training": training, "clean": measured, "attacks": [], "sensitive": None,
        "feature_path": "direct",
    }  # fmt: skip


def test_statistics(tmp_path, monkeypatch, capsys):
    by_hand, from_results = code("docs/statistics.md")
    exec(by_hand, {})
    printed = capsys.readouterr().out
    assert printed.startswith("BPRMF (")
    difference, low, high = (float(number) for number in printed.splitlines()[-1].split()[:3])
    assert low <= difference <= high
    for run, clean in (("before", 0.2), ("after", 0.4)):
        for defense, gain in (("none", 0.0), ("APR", 0.3)):
            mr.utils.write_json(tmp_path / "runs" / run / "entries" / f"{defense}.json", made_up(defense, clean + gain))
    monkeypatch.chdir(tmp_path)
    exec(from_results, {})
    printed = capsys.readouterr().out
    assert "\N{BLACK UP-POINTING TRIANGLE}" in printed
    assert "\\bottomrule" in printed
    assert "B is better in VBPR with defense none on shop, clean (+0.2000)" in printed


@pytest.mark.parametrize("name", sorted(["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]))
def test_links_lead_somewhere(name):
    path = ROOT / name
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (path.parent / target).exists(), target
