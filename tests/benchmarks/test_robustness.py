"""The page of robustness results says what the entries hold, and costs are measured on real passes."""

import copy

import pytest

import mmgraph_robust as mr
from benchmarks.robustness import cost, table
from mmgraph_robust.attacks import PGD, Noise, Suite, suite
from mmgraph_robust.experiment import RunConfig, run
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
        {"name": "Noise", "budgets": [0.05, 0.5]},
        {"name": "SingleStep", "budgets": [0.05, 0.5], "graphs": ["frozen", "rebuilt"]},
        {"name": "PGD", "steps": 2, "budgets": [0.05, 0.5], "graphs": ["frozen", "rebuilt"]},
        {"name": "Suite", "budgets": [0.05, 0.5]},
        {"name": "Suite", "budgets": [0.05], "modalities": ["all"], "graphs": ["frozen"]},
        {"name": "Suite", "budgets": [0.1], "modalities": ["all"], "goals": [{"name": "Promote", "count": 2}]},
    ],
}


@pytest.fixture
def short_suite(monkeypatch):
    monkeypatch.setitem(mr.attacks.suite.SUITES, "standard", lambda problem, surrogates: [("PGD", PGD(4))])


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmgraph_robust.attacks.suite.SUITES", {"standard": lambda p, s: [("PGD", PGD(4)), ("noise", Noise())]})
        return run(RunConfig(CONFIG), tmp_path_factory.mktemp("run"), threads=1, progress=False)


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}
