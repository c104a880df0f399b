"""The rules of the house, read from its source."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmgraph_robust"
FILES = sorted(PACKAGE.rglob("*.py"))
# Imports go from later to earlier; rooms of one tier may know each other.
TIERS = [
    {"typing", "errors", "version"}, {"utils"}, {"sparse"}, {"data"}, {"nn"}, {"models"}, {"metrics"},
    {"attacks", "defenses"}, {"training", "evaluation", "testing"}, {"reporting"}, {"experiment"}, {"tuning"}, {"cli"},
]  # fmt: skip
LEVEL = {room: level for level, tier in enumerate(TIERS) for room in tier}
ROOMS = [
    "sparse",
    "data",
    "nn",
    "models",
    "metrics",
    "attacks",
    "defenses",
    "training",
    "evaluation",
    "reporting",
    "testing",
    "tuning",
]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "mmgraph_robust" and len(parts) > 1 and parts[1] in LEVEL:
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in LEVEL, f"'{room}' has no place in the stream of imports"
    against = {other for other in imported_rooms(path) if LEVEL[other] > LEVEL[room]}
    assert not against


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_code_from_files_and_no_asserts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise an error of errors.py"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill"} & set(names)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("eval", "exec", "joblib.load", "joblib.dump")
            assert keywords.get("allow_pickle", "False") == "False"
            if called == "torch.load":
                assert keywords.get("weights_only") == "True"


@functools.cache
def used_in_tests():
    """Every identifier and attribute of the tests' code: to be imported, or named in a text, is no use."""
    nodes = [n for p in (ROOT / "tests").rglob("*.py") for n in ast.walk(ast.parse(p.read_text()))]
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_documented_and_tested(room):
    module = importlib.import_module(f"mmgraph_robust.{room}")
    documented = (ROOT / "docs" / "api.md").read_text()
    for name in module.__all__:
        assert f"`{name}`" in documented, f"{room}.{name} has no line in docs/api.md"
        assert name in used_in_tests(), f"{room}.{name} has no test"
        member = getattr(module, name)
        if callable(member):
            assert member.__doc__, f"{room}.{name} has no docstring"
