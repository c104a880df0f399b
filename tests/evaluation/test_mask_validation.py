"""Whether validation items are left out is asked in many places, and counts in each."""

import re

import pytest
from typer.testing import CliRunner

import mmgraph_robust as mr
from mmgraph_robust.attacks import Noise, ThreatModel
from mmgraph_robust.cli.main import app
from mmgraph_robust.evaluation import certify, embed, smoothed_recall
from mmgraph_robust.experiment import RunConfig, run
from mmgraph_robust.training import load_model, save_model

K = 10


def by_hand(model, data, mask):
    """Recall of the test items, user by user."""
    user, item = embed(model, data).concatenated()
    had = {split: mr.data.interactions(data, split) for split in ("train", "val", "test")}
    recalls = []
    for u in had["test"][0].unique().tolist():
        own = {split: set(pairs[1][pairs[0] == u].tolist()) for split, pairs in had.items()}
        banned = own["train"] | own["val"] if mask else own["train"]
        order = [i for i in (item @ user[u]).argsort(descending=True).tolist() if i not in banned]
        recalls.append(len(own["test"] & set(order[:K])) / len(own["test"]))
    return sum(recalls) / len(recalls)


def by_evaluate(model, data, mask, folder):
    return model, mr.evaluate(model, data, k=[K], mask_validation=mask)[f"recall@{K}"]


def by_robustness(model, data, mask, folder):
    attacks = [(Noise(), ThreatModel(["visual"], 0.0))]
    found = mr.evaluation.robustness(
        model, data, attacks, k=[K], mask_validation=mask, checks=False, progress=False
    )  # fmt: skip
    assert found["attacks"][0]["metrics"] == found["clean"]["metrics"]
    return model, found["clean"]["metrics"][f"recall@{K}"]


def by_certify(model, data, mask, folder):
    return model, certify(model, data, ThreatModel(["visual"]), k=K, mask_validation=mask).clean


def by_smoothed_recall(model, data, mask, folder):
    threat = ThreatModel(["visual"])
    return model, smoothed_recall(model, data, threat, sigma=1e-7, samples=2, k=K, mask_validation=mask).expected


def by_configuration(model, data, mask, folder):
    mr.data.write_mmrec(data, folder / "shop")
    config = {
        "name": "toy", "data": {"format": "mmrec", "folder": str(folder / "shop")},
        "training": {"max_epochs": 60, "batch_size": 256, "learning_rate": 0.01},
        "models": [{"name": "VBPR", "embedding_dim": 16, "reg": 0.1}], "attacks": [],
        "evaluation": {"k": [K], "metric": f"recall@{K}", "mask_validation": mask},
    }  # fmt: skip
    (entry,) = run(RunConfig(config), folder / "run", progress=False)
    (path,) = (folder / "run" / "models").glob("*.safetensors")
    return load_model(path), entry["clean"]["metrics"][f"recall@{K}"]


def by_command(model, data, mask, folder):
    mr.data.write_mmrec(data, folder / "shop")
    save_model(model, folder / "m.safetensors", data)
    arguments = ["evaluate", str(folder / "m.safetensors"), str(folder / "shop"), "--k", str(K)]
    done = CliRunner().invoke(app, arguments + ["--mask-validation"] * mask)
    assert done.exit_code == 0, done.output
    return model, float(re.search(rf"recall@{K}\D+([\d.]+)", done.output).group(1))


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(
    "ask", [by_evaluate, by_robustness, by_certify, by_smoothed_recall, by_configuration, by_command]
)
def test_validation_items_are_left_out_where_that_is_asked(shop, trained, tmp_path, ask, mask):
    model, found = ask(trained, shop, mask, tmp_path)
    # Four digits are shown on the command line.
    assert found == pytest.approx(by_hand(model, shop, mask), abs=6e-5)
    assert abs(by_hand(model, shop, True) - by_hand(model, shop, False)) > 1e-3
