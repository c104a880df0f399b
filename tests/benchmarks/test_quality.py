import copy
import inspect
import json
import math

import pytest
import torch

import mmgraph_robust as mr
from benchmarks import trained
from benchmarks.quality import search as room
from benchmarks.quality.__main__ import main
from benchmarks.quality.search import Trainer, candidates, read_data, search, spaces
from benchmarks.quality.table import page, table
from mmgraph_robust.data import write_mmrec
from mmgraph_robust.data.schema import INTERACTS
from mmgraph_robust.errors import ConfigError

SMALL = {
    "training": {"max_epochs": 5, "patience": 3, "eval_every": 1, "batch_size": 64},
    "candidates": {"max_epochs": 2, "learning_rate": [0.003, 0.03]},
    "limits": {"VBPR": 4},
    "models": {"BPRMF": {"reg": [0.1, 0.01]}, "VBPR": {"reg": [1.0, 0.1]}},
    "data": {
        "shop": {"folder": "shop", "features": {"visual": "image_feat.npy"}},
        "bare": {"folder": "shop", "features": {}},
    },
    "targets": {"shop": {"VBPR": 0.25}},
}
# Four candidates, two of them to the end, two more seeds.
TRAININGS = 8


@pytest.fixture
def small(monkeypatch):
    for name, part in SMALL.items():
        monkeypatch.setitem(spaces(), name, part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    data = mr.synthetic(
        num_users=40, num_items=20, modalities={"visual": 6, "textual": 5}, popularity_exponent=0.0, seed=0
    )
    write_mmrec(data, path / "shop")
    return path


@pytest.fixture
def run(small, folder, tmp_path):
    """Runs the command in a folder of its own, and returns what it wrote."""

    def call(only="VBPR", work=tmp_path / "work"):
        main("shop", only=only, threads=0, folder=folder, work=work, out=tmp_path / "out", progress=False)
        return {p.stem: json.loads(p.read_text()) for p in sorted((tmp_path / "out" / "shop").glob("*.json"))}

    return call


def timeless(value):
    """Without what no two runs share: when and for how long they ran."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "created")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


class Counted:
    """Stands in for fit: counts trainings and their epochs, and dies after `last` epochs."""

    def __init__(self, last=math.inf):
        self.trainings, self.epochs, self.last = 0, 0, last

    def __call__(self, *args, **kwargs):
        self.trainings += 1
        return mr.fit(*args, **kwargs, on_epoch=self.on_epoch)

    def on_epoch(self, history):
        self.epochs += 1
        if self.epochs == self.last:
            raise KeyboardInterrupt


def test_every_backbone_gets_the_same_number_of_candidates():
    models = spaces()["models"]
    assert len(models) == 14
    for name in models:
        tried = candidates(name)
        assert len({json.dumps(settings) for settings in tried}) == len(tried) == 4
        known = inspect.signature(getattr(mr.models, name)).parameters
        for settings in tried:
            assert set(settings["model"]) <= set(known)
            assert set(settings["training"]) == {"learning_rate"}
    assert set(spaces()["limits"]) <= set(models)
    assert all(set(targets) <= set(models) for targets in spaces()["targets"].values())


def test_unknown_names_are_said_before_any_training(small, folder, run, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    with pytest.raises(ConfigError, match="did you mean 'VBPR'"):
        run(only="BPRMF, VBPRR")
    with pytest.raises(ConfigError, match="unknown data set 'shops'"):
        read_data("shops", folder)
    assert counted.trainings == 0
    assert mr.data.modalities(read_data("shop", folder)) == ["visual"]
    assert mr.data.modalities(read_data("bare", folder)) == []


def test_all_backbones_of_the_spaces_by_default(run):
    found = run(only="")
    assert list(found) == ["BPRMF", "VBPR"]
    for name, most in (("BPRMF", 5), ("VBPR", 4)):
        result = found[name]
        assert [len(result[key]) for key in ("candidates", "finalists", "runs")] == [4, 2, 3]
        assert all(record["epochs"] <= 2 for record in result["candidates"])
        assert all(2 < r["epochs"] <= most or r["stopped_early"] for r in result["finalists"] + result["runs"])
        assert [r["seed"] for r in result["runs"]] == [0, 1, 2]
        assert result["dataset"] == "shop"
        assert result["provenance"]["data_hash"] == result["runs"][0]["provenance"]["data_hash"]


def test_the_choice_is_made_by_validation(small, monkeypatch, tmp_path):
    """The settings that validation likes best are the worst on test, and no others are ever tested."""
    settings = candidates("VBPR")
    short, long = [0.3, 0.4, 0.6, 0.5], {1: 0.7, 2: 0.65}
    seen = []

    class Scripted:
        work, data = tmp_path, mr.synthetic(num_users=20, num_items=10, seed=0)

        def __call__(self, model, chosen, seed, max_epochs):
            number = settings.index(chosen)
            seen.append((number, seed, max_epochs))
            value = short[number] if max_epochs == 2 else long[number]
            return {"file": f"{number}-{seed}", "validation": value, "seed": seed}

    def tested(model, data, split):
        seen.append((model, split))
        return {"recall@20": 0.1}

    monkeypatch.setattr(room, "load_model", lambda path: path.name)
    monkeypatch.setattr(room, "evaluate", tested)
    result = search("shop", "VBPR", Scripted())
    assert seen[:4] == [(n, 0, 2) for n in range(4)]
    # The best of each learning rate goes on; the one that was better early is not the one that is better late.
    assert seen[4:6] == [(1, 0, 4), (2, 0, 4)]
    assert seen[6:] == [x for seed in range(3) for x in ((1, seed, 4), (f"1-{seed}", "test"))]
    assert result["chosen"] == settings[1]


def test_the_test_split_has_no_part_in_the_choice(small, folder, tmp_path):
    data = read_data("shop", folder)
    other = copy.deepcopy(data)
    edges = other[INTERACTS].edge_index
    free = torch.ones(40, 20, dtype=torch.bool)
    free[edges[0], edges[1]] = False
    for position in other[INTERACTS].test_mask.nonzero().flatten():
        user = edges[0, position]
        edges[1, position] = free[user].nonzero()[0, 0]
        free[user, edges[1, position]] = False
    one, two = (search("shop", "VBPR", Trainer(d, tmp_path / n, False)) for d, n in ((data, "a"), (other, "b")))
    for key in ("candidates", "finalists"):
        assert [r["validation"] for r in one[key]] == [r["validation"] for r in two[key]]
    assert one["chosen"] == two["chosen"]
    assert one["runs"][0]["test"] != two["runs"][0]["test"]


def test_the_test_numbers_are_those_of_the_stored_models(run, folder, tmp_path):
    result = run()["VBPR"]
    data = read_data("shop", folder)
    for record in result["runs"]:
        model = mr.load_model(tmp_path / "work" / "shop" / record["file"])
        assert model.config["reg"] == result["chosen"]["model"]["reg"]
        assert model.seed == record["seed"]
        assert mr.evaluate(model, data, split="test") == record["test"]
        assert mr.evaluate(model, data, split="val")["recall@20"] == pytest.approx(record["validation"])


def test_a_longer_training_goes_on_from_the_shorter_one(small, folder, tmp_path, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    data, settings = read_data("shop", folder), candidates("VBPR")[0]
    trainer, direct = (Trainer(data, tmp_path / name, False) for name in ("steps", "direct"))
    assert trainer("VBPR", settings, 0, 2)["epochs"] == 2
    record = trainer("VBPR", settings, 0, 4)
    assert counted.epochs == record["epochs"]
    assert timeless(record) == timeless(direct("VBPR", settings, 0, 4))


# In the first candidate; in the last; in a finalist; in the second seed.
@pytest.mark.parametrize("last", [1, 8, 10, 14])
def test_a_killed_run_goes_on_to_the_same_result(run, monkeypatch, tmp_path, last):
    whole = Counted()
    monkeypatch.setattr(trained, "fit", whole)
    expected = timeless(run(work=tmp_path / "whole"))
    assert whole.trainings == TRAININGS
    killed, rest = Counted(last), Counted()
    monkeypatch.setattr(trained, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(trained, "fit", rest)
    assert timeless(run()) == expected
    # Only the training that was killed is met twice.
    assert killed.trainings + rest.trainings == TRAININGS + 1


def test_what_was_trained_is_not_trained_again(run, monkeypatch, folder, tmp_path):
    first = run()
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    assert timeless(run()) == timeless(first)
    assert counted.trainings == 0
    # Another seed, other settings or other data are another training.
    trainer, settings = Trainer(read_data("shop", folder), tmp_path / "work" / "shop", False), candidates("VBPR")[0]
    trainer("VBPR", settings, 0, 2)
    assert counted.trainings == 0
    trainer("VBPR", settings, 7, 2)
    trainer("VBPR", settings | {"training": {"learning_rate": 0.02}}, 0, 2)
    changed = copy.deepcopy(trainer.data)
    changed["item"].x_visual[0] += 1
    Trainer(changed, trainer.work, False)("VBPR", settings, 0, 2)
    assert counted.trainings == 3


def result_of(model, recalls, chosen, stopped):
    runs = [
        {"test": {"recall@20": r, "ndcg@20": r / 2, "recall@10": r / 4, "ndcg@10": r / 8}, "epochs": 10 + 2 * i,
         "seconds": 6.0, "stopped_early": s}
        for i, (r, s) in enumerate(zip(recalls, stopped, strict=True))
    ]  # fmt: skip
    return {"model": model, "runs": runs, "chosen": chosen}


def test_the_table_by_hand():
    results = [
        result_of("VBPR", [0.1, 0.2, 0.3], {"model": {"reg": 0.1}, "training": {"learning_rate": 0.003}}, [True] * 3),
        result_of("MMGCN", [0.3, 0.3, 0.3], {"model": {"variant": "paper"}, "training": {"learning_rate": 1e-3}},
                  [True, True, False]),
    ]  # fmt: skip
    assert table(results, {"VBPR": 0.25}).splitlines() == [
        "| backbone | Recall@20 | NDCG@20 | Recall@10 | NDCG@10 | toolbox, untuned | chosen | epochs | "
        "seconds per epoch |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
        "| MMGCN | 0.3000 ± 0.0000 | 0.1500 ± 0.0000 | 0.0750 ± 0.0000 | 0.0375 ± 0.0000 |  "
        "| variant paper, learning_rate 0.001 | 12 (limit) | 0.50 |",
        "| VBPR | 0.2000 ± 0.1000 | 0.1000 ± 0.0500 | 0.0500 ± 0.0250 | 0.0250 ± 0.0125 | 0.250 "
        "| reg 0.1, learning_rate 0.003 | 12 | 0.50 |",
    ]


def test_the_page_shows_what_was_run(run, tmp_path):
    assert "##" not in page(tmp_path / "out")
    result = run()["VBPR"]
    text = page(tmp_path / "out")
    assert "## shop" in text
    assert "## bare" not in text
    assert "(VBPR: 4 at most)" in text
    assert "max_epochs 5, patience 3" in text
    mean = sum(r["test"]["recall@20"] for r in result["runs"]) / 3
    assert f"| VBPR | {mean:.4f} ± " in text
    assert "| 0.250 |" in text
