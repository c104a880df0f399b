import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmgraph_robust as mr
from mmgraph_robust.cli.main import app
from mmgraph_robust.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FAST = ["-s", "training.max_epochs=2", "-s", "model.embedding_dim=4"]


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def folder(tmp_path, shop):
    mr.data.write_mmrec(shop, tmp_path / "shop")
    return tmp_path / "shop"


def test_train_evaluate_attack(folder, tmp_path):
    model = tmp_path / "m.safetensors"
    done = call("train", folder, "--model", "VBPR", "--defense", "ModalityBalancing", "-s", "defense.sensitive=visual",
                "--out", model, *FAST)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "recall@20" in done.output
    assert not list(tmp_path.glob("*.checkpoint.pt"))
    done = call("evaluate", model, folder, "--k", "5")
    assert done.exit_code == 0, done.output
    assert "recall@5" in done.output
    done = call("attack", model, folder, "--modality", "visual", "-s", "attack.steps=2", "--out", tmp_path / "attacked")
    assert done.exit_code == 0, done.output
    attacked = mr.read_mmrec(tmp_path / "attacked")
    clean = mr.read_mmrec(folder)
    change = (attacked["item"].x_visual - clean["item"].x_visual).norm(dim=1) / clean["item"].x_visual.norm(dim=1)
    assert 0 < float(change.max()) < 0.0501
    own = call("train", folder, "--model", "VBPR", "--out", tmp_path / "own.safetensors", "-s", "model.embedding_dim=4",
               "-s", "model.training.max_epochs=1", "-s", 'model.modalities=["textual"]')  # fmt: skip
    assert own.exit_code == 0, own.output
    # It is not shown the image, and is attacked in what it reads.
    done = call("attack", tmp_path / "own.safetensors", folder, "-s", "attack.steps=2")
    assert done.exit_code == 0, done.output
    done = call("train", folder, "--model", "VBPR", "--out", tmp_path / "x.safetensors", "--device", "moon", *FAST)
    assert done.exit_code == 2
    assert "'device' expects one that torch can use here" in " ".join(done.output.split())
    done = call("attack", model, "synthetic", "--modality", "visual")
    assert done.exit_code == 2
    assert "give the data that it was trained on" in " ".join(done.output.split())


def test_run_and_report(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        'name = "toy"\n[data]\nformat = "synthetic"\nnum_users = 60\nnum_items = 40\n[training]\nmax_epochs = 1\n'
        '[[models]]\nname = "VBPR"\n[[attacks]]\nname = "Noise"\n'
    )
    done = call("run", config, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    (tmp_path / "run" / "report.html").unlink()
    assert call("report", tmp_path / "run").exit_code == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        ("truncate", ["image_feat.npy", "fetch it again"]),
        ("nan", ["image_feat.npy", "NaN", "row"]),
        ("short", ["image_feat.npy", "79", "80"]),
        ("id", ["shop.inter", "line 2", "userID"]),
        ("key", ["max_epoch'", "max_epochs"]),
        ("empty test", ["test split is empty"]),
        ("modality", ["visaul", "visual"]),
        ("budget", ["budget", ">= 0"]),
    ],
)
def test_bad_input_gives_one_clear_line(folder, tmp_path, damage, names):
    image = folder / "image_feat.npy"
    matrix = np.load(image)
    arguments = ["train", folder, "--model", "VBPR", "--out", tmp_path / "m.safetensors", *FAST]
    if damage in ("modality", "budget", "empty test"):
        assert call(*arguments).exit_code == 0
    if damage == "truncate":
        image.write_bytes(image.read_bytes()[:-100])
    elif damage == "nan":
        matrix[7, 0] = np.nan
        np.save(image, matrix)
    elif damage == "short":
        np.save(image, matrix[:-1])
    elif damage == "id":
        table = (folder / "shop.inter").read_text().splitlines()
        table[1] = "-1" + table[1][table[1].index("\t") :]
        (folder / "shop.inter").write_text("\n".join(table) + "\n")
    elif damage == "key":
        arguments += ["-s", "training.max_epoch=3"]
    elif damage == "empty test":
        table = (folder / "shop.inter").read_text().splitlines()
        (folder / "shop.inter").write_text("\n".join([r for r in table if not r.endswith("\t2")]) + "\n")
        arguments = ["evaluate", tmp_path / "m.safetensors", folder]
    elif damage == "modality":
        arguments = ["attack", tmp_path / "m.safetensors", folder, "--modality", "visaul"]
    else:
        arguments = ["attack", tmp_path / "m.safetensors", folder, "--budget", "-1"]
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    lines = [line for line in done.output.splitlines() if "Error: " in line]
    assert len(lines) == 1
    assert "Traceback" not in done.output
    for name in names:
        assert name in lines[0]


def test_tune_show_and_test(tmp_path):
    config = tmp_path / "study.toml"
    config.write_text(
        'name = "toy"\n[data]\nformat = "synthetic"\nnum_users = 60\nnum_items = 40\n[training]\nmax_epochs = 1\n'
        '[[models]]\nname = "VBPR"\nembedding_dim = 4\n[study]\nobjective = "clean"\ntest_seeds = [9]\n'
    )
    out = tmp_path / "study"
    assert "there is no study" in call("tune", config, "--out", out, "--show").output
    done = call("tune", config, "--trials", "2", "--out", out)
    assert done.exit_code == 0, done.output
    assert "2 complete" in done.output
    assert (out / "study.html").exists()
    best, *_ = sorted((out / "best").glob("toy-trial*.toml"))
    run = call("run", best, "--out", tmp_path / "run")
    assert run.exit_code == 0, run.output
    done = call("tune", config, "--trials", "2", "--out", out, "--test")
    assert done.exit_code == 0, done.output
    assert "defaults" in done.output
    again = call("tune", config, "--out", out, "--test")
    assert again.exit_code == 2
    assert "was read for this study already" in again.output
    assert call("tune", config, "--out", out, "--test-again").exit_code == 0
    changed = call("tune", config, "--out", out, "--set", "training.max_epochs=2")
    assert changed.exit_code == 2
    assert "run.training.max_epochs: 1 there, 2 here" in changed.output


MY_MODEL = '''
from mmgraph_robust.models import Embeddings, VBPR


class MyModel(VBPR):
    """VBPR that listens to features twice as much."""

    def forward(self, features, graph):
        found = super().forward(features, graph)
        return Embeddings(found.user, {c: x if c == "id" else 2 * x for c, x in found.item.items()})
'''


def test_a_model_of_a_package_joins_a_suite_by_a_line(tmp_path):
    """Ten lines outside the library, and the entry point that pip would write."""
    package, suite, out = tmp_path / "package", tmp_path / "mine.toml", tmp_path / "out"
    info = package / "my_package-1.dist-info"
    info.mkdir(parents=True)
    (package / "my_package.py").write_text(MY_MODEL)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmgraph_robust.models]\nMyModel = my_package:MyModel\n")
    suite.write_text(
        'name = "mine"\n[data.shop]\nformat = "synthetic"\nnum_users = 60\nnum_items = 40\n[training]\nmax_epochs = 1\n'
        '[[models]]\nname = "VBPR"\n[[models]]\nname = "MyModel"\n[[attacks]]\nname = "PGD"\nsteps = 2\n'
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    command = [sys.executable, "-c", "from mmgraph_robust.cli.main import app; app()", "bench", str(suite), "-o", out]
    for jobs, more in (("1", ["--dry-run"]), ("2", [])):
        done = subprocess.run([*command, "--jobs", jobs, *more], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "MyModel" in done.stdout
        assert out.exists() == (not more)
    assert (
        "mine: 8 cells, 8 to do"
        in subprocess.run(
            [*command, "--dry-run", "--set", "training.max_epochs=2"], env=environment, capture_output=True, text=True
        ).stdout
    )
    assert "MyModel" in (out / "report.html").read_text()
    assert "MyModel" in (out / "table.md").read_text()


def line_of(done):
    assert done.exit_code == 2, done.output
    (line,) = (line for line in done.output.splitlines() if "Error: " in line)
    return line


def test_where_nothing_can_be_written_is_said_before_any_work(folder, tmp_path, unwritable, monkeypatch):
    def never(*_, **__):
        raise AssertionError("too late")

    file, model, config = tmp_path / "file", tmp_path / "m.r.seed0", tmp_path / "c.toml"
    file.write_text("")
    config.write_text('name = "toy"\n[data]\nformat = "synthetic"\n[[models]]\nname = "VBPR"\n')
    done = call("train", folder, "--model", "VBPR", "--out", model, *FAST)
    assert done.exit_code == 0, done.output
    monkeypatch.setattr("mmgraph_robust.experiment.commands.fit", never)
    monkeypatch.setattr(mr.attacks.PGD, "run", never)
    assert "go into a file" in line_of(call("train", folder, "--model", "VBPR", "--out", tmp_path))
    assert "is a file and no folder" in line_of(call("train", folder, "--model", "VBPR", "--out", file / "x"))
    assert "go into a folder" in line_of(call("attack", model, folder, "--out", file))
    assert "go into a folder" in line_of(call("run", config, "--out", file))
    assert "is a file and no folder" in line_of(call("run", config, "--out", file / "x" / "y"))
    assert "may not be written to" in line_of(call("train", folder, "--model", "VBPR", "--out", unwritable / "x"))
    assert "may not be written to" in line_of(call("run", config, "--out", unwritable / "x"))
    # Models are written after the training only.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "models").write_text("")
    assert "models' is a file" in line_of(call("run", config, "--out", tmp_path / "run"))


def test_only_a_run_that_reported_what_was_done_says_where(tmp_path):
    config, out = tmp_path / "c.toml", tmp_path / "run"
    config.write_text(
        'name = "toy"\n[data]\nformat = "synthetic"\nnum_users = 60\nnum_items = 40\n[training]\nmax_epochs = 1\n'
        '[[models]]\nname = "VBPR"\n[[attacks]]\nname = "PGD"\nsteps = 1\nmodalities = ["all"]\n'
        'box = { visual = [50.0, 60.0] }\n[[attacks]]\nname = "Noise"\n'
    )
    done = call("run", config, "--out", out)
    assert "the others are in" in line_of(done)
    assert str(out / "report.html") in line_of(done)
    done = call("run", config, "--out", out, "-s", "data.num_items=0")
    assert "report" not in line_of(done)
    assert "report.html" not in done.output


def test_metrics_are_printed_before_attacked_data_are_written(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    assert call("train", folder, "--model", "VBPR", "--out", tmp_path / "m", *FAST).exit_code == 0
    monkeypatch.setattr(mr.data, "write_mmrec", full)
    done = call("attack", tmp_path / "m", folder, "-s", "attack.steps=1", "--out", tmp_path / "attacked")
    assert "recall@20" in done.output
    assert "OSError: [Errno 28] No space left on device" in line_of(done)


def test_unfinished_models_whose_names_differ_after_a_dot_do_not_share_a_checkpoint(folder, tmp_path, monkeypatch):
    kept = []

    def stopped(*_, checkpoint, **__):
        kept.append(checkpoint.name)
        raise ConfigError("stopped")

    monkeypatch.setattr("mmgraph_robust.experiment.commands.fit", stopped)
    for name in ("r.seed0", "r.seed1"):
        assert "stopped" in line_of(call("train", folder, "--model", "VBPR", "--out", tmp_path / name, *FAST))
    assert kept == ["r.seed0.checkpoint.pt", "r.seed1.checkpoint.pt"]


def test_a_suite_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("bench", "smoke")
    assert done.exit_code == 2
    assert "unknown suite 'smoke'" in done.output
    assert not list(tmp_path.iterdir())


def test_compare_says_what_differs_and_what_is_noise(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        'name = "toy"\n[data]\nformat = "synthetic"\nnum_users = 60\nnum_items = 40\n[training]\nmax_epochs = 1\n'
        '[[models]]\nname = "VBPR"\n[[attacks]]\nname = "Noise"\n'
    )
    for name, rate in (("a", "1e-3"), ("b", "1e-2")):
        done = call("run", config, "--out", tmp_path / name, "--set", f"training.learning_rate={rate}")
        assert done.exit_code == 0, done.output
    same = call("compare", tmp_path / "a", tmp_path / "a")
    assert same.exit_code == 0, same.output
    assert "identical" in same.output
    other = call("compare", tmp_path / "a", tmp_path / "b")
    assert other.exit_code == 0, other.output
    assert "learning_rate" in other.output
    gone = call("compare", tmp_path / "a", tmp_path / "c")
    assert gone.exit_code == 2
    assert len([line for line in gone.output.splitlines() if "Error: " in line]) == 1


def test_a_model_of_changed_data_is_evaluated_on_the_same(tmp_path):
    model, smaller = tmp_path / "m.safetensors", ["-s", "data.num_users=60", "-s", "data.num_items=40"]
    done = call("train", "synthetic", "--model", "VBPR", "--out", model, *smaller, *FAST)
    assert done.exit_code == 0, done.output
    assert call("evaluate", model, "synthetic").exit_code == 2
    for command in (["evaluate", model, "synthetic"], ["attack", model, "synthetic", "-s", "attack.steps=2"]):
        done = call(*command, *smaller, "--device", "cpu")
        assert done.exit_code == 0, done.output
        assert "'device' expects" in " ".join(call(*command, *smaller, "--device", "moon").output.split())


def test_errors_of_train_name_its_own_keys(tmp_path):
    def said(*more):
        done = call("train", "synthetic", "--model", "VBPR", "--out", tmp_path / "m", *more)
        assert done.exit_code == 2
        return " ".join(done.output.split())

    assert "defense.sensitive" in said("--defense", "ModalityBalancing")
    assert "name a modality (visual, textual)" in said("--defense", "ModalityBalancing", "-s", "defense.sensitive=auto")
    assert "model: unknown key 'embeding_dim'" in said("-s", "model.embeding_dim=3")
    assert "--set model: expects keys, as in model.KEY=VALUE (got 3)" in said("-s", "model=3")
    assert "--set model.name: the name is given by --model (got 'LightGCN')" in said("-s", "model.name=LightGCN")
    assert "--set defense.name: the name is given by --defense (got 'APR')" in said("-s", "defense.name=APR")


def test_only_the_split_that_is_asked_for_is_needed(folder, tmp_path):
    model, table = tmp_path / "m", folder / "shop.inter"
    assert call("train", folder, "--model", "VBPR", "--out", model, *FAST).exit_code == 0
    table.write_text("\n".join(r for r in table.read_text().splitlines() if not r.endswith("\t2")) + "\n")
    done = call("evaluate", model, folder, "--split", "val")
    assert done.exit_code == 0, done.output
    assert "recall@20" in done.output
    assert "test split is empty" in line_of(call("evaluate", model, folder))
    assert "test split is empty" in line_of(call("attack", model, folder, "-s", "threat.labels=val"))
    assert "threat.goal: expects a table of keys (got 5)" in line_of(
        call("attack", model, folder, "-s", "threat.goal=5")
    )
