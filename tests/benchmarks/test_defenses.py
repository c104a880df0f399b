import copy
import inspect
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from matplotlib.axes import Axes

import mmgraph_robust as mr
from benchmarks import options, trained
from benchmarks.defenses import search as room
from benchmarks.defenses.__main__ import main
from benchmarks.defenses.ablation import ablate, draw
from benchmarks.defenses.ablation import main as ablation
from benchmarks.defenses.cost import cost
from benchmarks.defenses.cost import main as measure
from benchmarks.defenses.search import (
    RESULTS,
    Trainer,
    candidates,
    choose,
    labels_for,
    read_data,
    search,
    spaces,
    told_by,
)
from benchmarks.defenses.table import beyond, by_attacks, elsewhere, page, table, unheard, write
from mmgraph_robust.attacks.suite import SUITES
from mmgraph_robust.data import write_mmrec
from mmgraph_robust.data.schema import INTERACTS
from mmgraph_robust.errors import ConfigError

SMALL = {
    "search": {"seeds": [0, 1], "max_clean_loss": 0.02, "min_carried": 0.5, "budget": 0.05},
    "test": {"budgets": [0.05]},
    "training": {"max_epochs": 4, "patience": 3, "eval_every": 1, "batch_size": 64, "learning_rate": 0.02},
    "models": {"VBPR": {"arguments": {"reg": 0.1, "embedding_dim": 8}, "training": {"max_epochs": 6}}},
    "data": {"shop": {"folder": "shop", "features": {"visual": "image_feat.npy", "textual": "text_feat.npy"}}},
    "defenses": {
        "none": {"control": True},
        "AdversarialTraining": {"budget": [0.05, 0.2], "weight": [1.0, 0.3]},
        "FreeAdversarialTraining": {"fixed": {"replays": 2}, "training": {"max_epochs": 0.5}, "budget": [0.05, 0.2]},
        "without visual": {"control": True, "without": "visual"},
        "blind, trained": {
            "control": True, "without": "visual", "name": "AdversarialTraining", "fixed": {"budget": 0.2},
        },
        "ids only": {"control": True, "model": {"VBPR": "BPRMF"}},
    },
    "ids": {"BPRMF": {"arguments": {"reg": 0.1}, "training": {"max_epochs": 5}}},
    "ablations": {"AdversarialTraining": {"base": {"budget": 0.1, "steps": 1}, "budget": [0.0, 0.1], "steps": [1, 2]}},
}  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    for name, part in SMALL.items():
        monkeypatch.setitem(spaces(), name, part)


@pytest.fixture
def light_suite(monkeypatch):
    """Two attacks in the place of the suite's many, where it does not matter which they are; what they leave is kept as
    the suite's, so not in a folder that is shared."""
    monkeypatch.setitem(SUITES, "standard", lambda problem, surrogates: [
        ("noise", mr.attacks.Noise()), ("single step", mr.attacks.SingleStep("margin")),
    ])  # fmt: skip


@pytest.fixture
def light_attacks(light_suite, monkeypatch):
    """Two steps in the place of twenty, where models are only to be attacked at all."""
    monkeypatch.setitem(room.JUDGES, "test", {False: (mr.attacks.PGD(2),), True: (mr.attacks.GraphRelaxation(2),)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    shop = mr.synthetic(
        num_users=40, num_items=40, modalities={"visual": 6, "textual": 5}, popularity_exponent=0.0, seed=0
    )
    write_mmrec(shop, path / "shop")
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """What tests train is trained once."""
    return tmp_path_factory.mktemp("work")


class Counted:
    """Stands in for fit, and dies after `last` epochs."""

    def __init__(self, last=10**9):
        self.trainings, self.epochs, self.last = 0, 0, last

    def __call__(self, *args, **kwargs):
        self.trainings += 1
        return mr.fit(*args, **kwargs, on_epoch=self.on_epoch)

    def on_epoch(self, history):
        self.epochs += 1
        if self.epochs == self.last:
            raise KeyboardInterrupt


def test_every_defense_gets_the_same_number_of_candidates():
    for label, entry in spaces()["defenses"].items():
        tried = candidates(label)
        searched = [values for key, values in entry.items() if isinstance(values, list) and key not in room._OWN_KEYS]
        assert len(tried) == (3 if searched else 1)
        further = {(name, model) for name, models in entry.get("further", {}).items() for model in models}
        for name, model in itertools.product(spaces()["data"], spaces()["models"]):
            more = candidates(label, name, model)
            assert more[: len(tried)] == tried
            assert (len(more) > len(tried)) == ((name, model) in further)
            assert len({json.dumps(arguments) for arguments in more}) == len(more)
            room.plugged(label, more[-1])
            further.discard((name, model))
        assert not further
        name = entry.get("name", label)
        if hasattr(mr.defenses, name):
            assert room.defense_class(label) is getattr(mr.defenses, name)
        else:
            assert name == "none" or entry.keys() & {"without", "model"}
            assert room.defense_class(label) is None
        assert entry.get("start", "none") == "none"
        if "wrapper" in entry:
            assert issubclass(room.defense_class(label), mr.defenses.Defense)
            around = dict(entry["wrapper"])
            wrapper = getattr(mr.defenses, around.pop("name"))
            assert issubclass(wrapper, mr.defenses.WrappedModel)
            assert wrapper.trains
            data = mr.synthetic(num_users=20, num_items=20)
            wrapper(mr.models.LATTICE.from_data(data, knn_k=3), data, **around, seed=0)
    for name, entry in spaces()["models"].items():
        assert set(entry["arguments"]) <= set(inspect.signature(room.backbone(name)).parameters)
        assert all(d["model"][name] in spaces()["ids"] for d in spaces()["defenses"].values() if "model" in d)
    for name, plan in spaces()["ablations"].items():
        for argument, values in plan.items():
            for value in [] if argument == "base" else values:
                getattr(mr.defenses, name)(**plan["base"] | {argument: None if value == math.inf else value})


def test_unknown_names_are_said_before_any_training(small, folder, tmp_path, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    where = {"folder": folder, "work": tmp_path, "out": tmp_path, "progress": False, "threads": 0}
    with pytest.raises(ConfigError, match="did you mean 'AdversarialTraining'"):
        main("shop", "VBPR", only="none;AdversarialTrainin", seeds=1, **where)
    with pytest.raises(ConfigError, match="did you mean 'VBPR'"):
        main("shop", "VBRP", only="", seeds=1, **where)
    monkeypatch.setitem(spaces(), "models", SMALL["models"] | {"other": {"name": "VBPR", "data": ["hm"]}})
    with pytest.raises(ConfigError, match="'other' is searched on hm, not on shop"):
        main("shop", "other", only="none", seeds=1, **where)
    assert room.backbones_for("shop") == ["VBPR"]
    with pytest.raises(ConfigError, match="unknown data 'shops'"):
        read_data("shops", folder)
    with pytest.raises(ConfigError, match="unknown ablations 'APR'"):
        ablation("shop", "VBPR", "APR", **where)
    assert counted.trainings == 0


def test_a_row_for_others_is_left_out_and_a_model_that_cannot_be_built_is_said_first(
    small, folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(spaces(), "defenses", {
        "none": {"control": True},
        "elsewhere": {"name": "none", "data": ["tiktok"]},
        "of another": {"name": "none", "models": ["GRCN"]},
    })  # fmt: skip
    assert labels_for("shop", "VBPR") == ["none"]
    assert labels_for("tiktok", "GRCN") == ["none", "elsewhere", "of another"]
    monkeypatch.setitem(spaces(), "models", {"VBPR": {"arguments": {"embedding_dim": 0}}})
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    with pytest.raises(ConfigError, match="embedding_dim"):
        main("shop", "VBPR", only="", seeds=1, folder=folder, work=tmp_path, out=tmp_path, progress=False, threads=0)
    assert counted.trainings == 0


def test_a_defense_with_nothing_to_act_on_is_told_on_the_page(small, light_suite, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(spaces(), "models", {
        "FREEDOM": {"arguments": {"embedding_dim": 8, "knn_k": 3}, "training": {"max_epochs": 2}},
    })  # fmt: skip
    monkeypatch.setitem(spaces(), "defenses", {
        "none": {"control": True},
        "ModalityBalancing": {"fixed": {"sensitive": "visual"}, "weight": [0.1, 1.0]},
        "Smoothed": {"sigma": [0.1, 1.0]},
        "TrustedItemGraph": {"floor": [0.1, 0.5]},
    })  # fmt: skip
    out = tmp_path / "out"
    main("shop", "FREEDOM", only="", seeds=1, folder=folder, work=tmp_path, out=out, progress=False, threads=0)
    text = page(out)
    assert "- Refused: `ModalityBalancing`: the features of 'visual' do not reach" in text
    assert "- Refused: `Smoothed`: 'FREEDOM' reads ['visual', 'textual'] only through" in text
    assert "| GraphRelaxation, visual, 5 % |" in text
    assert text.count("\n| ") == 1 + 2
    kept = json.loads((out / "shop" / "FREEDOM-TrustedItemGraph.json").read_text())
    assert len(kept["candidates"]) == 2
    names = ("visual", "textual")
    victim = mr.load_model(tmp_path / "shop" / kept["runs"][0]["file"])
    again = mr.attacks.GraphRelaxation(25)(victim, read_data("shop", folder), mr.attacks.ThreatModel(names, 0.05))
    assert kept["runs"][0]["test"]["attacks"][2]["recall@20"] == again.after["recall@20"]
    assert list(cost(read_data("shop", folder), "FREEDOM")) == ["none", "TrustedItemGraph"]
    for measured in ("none", "TrustedItemGraph"):
        (out / "shop" / f"FREEDOM-{measured}.json").unlink()
    text = page(out)
    assert "## shop, FREEDOM\n\n- Refused: `ModalityBalancing`" in text
    assert "\n| " not in text


def test_a_mistake_is_no_refusal_and_costs_no_result(small, folder, tmp_path, monkeypatch):
    def run(**noise):
        monkeypatch.setitem(spaces()["defenses"], "FeatureNoise", noise)
        main("shop", "VBPR", only="FeatureNoise", seeds=1, folder=folder, work=tmp_path, out=tmp_path / "out",
             progress=False, threads=0)  # fmt: skip

    monkeypatch.setitem(spaces(), "defenses", dict(SMALL["defenses"]))
    run(sigma=[0.05, 0.2])
    kept = (tmp_path / "out" / "shop" / "VBPR-FeatureNoise.json").read_text()
    with pytest.raises(ConfigError, match="expects sigma >= 0"):
        run(sigma=[0.05, -0.2])
    wrong = {
        "name": "AdversarialTraining",
        "budget": [0.05, 0.2],
        "wrapper": {"name": "TrustedItemGraph", "floor": 2.0},
    }
    monkeypatch.setitem(spaces()["defenses"], "wrapped wrongly", wrong)
    monkeypatch.setitem(spaces(), "models", {"LATTICE": {"arguments": {"knn_k": 3, "refresh_every": 1}}})
    with pytest.raises(ConfigError, match="expects floor from 0 to 1"):
        Trainer(read_data("shop", folder), tmp_path).refusal("LATTICE", "wrapped wrongly")
    monkeypatch.setitem(spaces(), "models", SMALL["models"])
    # What one candidate of several cannot do is a mistake as well, and a result is not given up for a refusal.
    with pytest.raises(ConfigError, match="'FeatureNoise' on VBPR, candidate by candidate: unknown modality 'odour'"):
        run(sigma=[0.05, 0.2], modalities=[["visual"], ["odour"]])
    with pytest.raises(ConfigError, match="holds results of 'FeatureNoise', which refuses VBPR now"):
        run(sigma=[0.05, 0.2], modalities=[["odour"], ["odour"]])
    assert (tmp_path / "out" / "shop" / "VBPR-FeatureNoise.json").read_text() == kept


def test_two_searches_on_one_folder_train_once(small, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "_PAUSE", 0.01)
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    data = read_data("shop", folder)
    with ThreadPoolExecutor(2) as pool:
        searches = [pool.submit(Trainer(data, tmp_path, False), "VBPR", "none", {}, 0) for _ in range(2)]
        one, two = (search.result() for search in searches)
    assert counted.trainings == 1
    assert one == two
    assert not list(tmp_path.glob("*.lock"))


def test_the_choice_keeps_the_clean_quality_and_takes_the_most_robust(small):
    def record(clean, attacked):
        return {"validation": clean, "validation_attacked": attacked}

    robust_but_dear, fair, weak = record(0.97, 0.9), record(0.985, 0.7), record(1.1, 0.2)
    undefended = record(1.0, 0.0)
    assert choose([robust_but_dear, fair, weak], undefended) is fair
    assert choose([robust_but_dear, record(0.9, 0.95)], undefended) is robust_but_dear
    assert choose([record(0.97, 0.8), robust_but_dear, record(0.97, 0.7)], undefended) is robust_but_dear
    assert choose([record(0.99, None)], undefended)["validation"] == 0.99
    assert choose([fair, weak], record(0.5, 0.0)) is fair


def carrying(attacked, clean=1.0, **carries):
    """A candidate, in which modalities carry that much."""
    shares = {m: {"clean": clean, "mean_features": clean - x} for m, x in carries.items()}
    return {
        "arguments": {"budget": attacked}, "validation": clean, "validation_attacked": attacked,
        "validation_carries": shares,
    }  # fmt: skip


def test_a_candidate_that_hears_less_than_half_is_passed_over(small):
    undefended = carrying(0.1, visual=0.125, textual=0.25)
    deaf, hears = carrying(0.9, visual=0.0625 - 1e-3, textual=0.375), carrying(0.8, visual=0.0625, textual=0.125)
    assert choose([deaf, hears, carrying(0.7, visual=0.125, textual=0.25)], undefended) is hears
    assert choose([carrying(0.9, visual=0.25, textual=0.1), hears], undefended) is hears
    # The clean recall comes first; and where nothing else keeps it, what keeps it is taken.
    assert choose([deaf, carrying(0.8, clean=0.9, visual=0.125, textual=0.25)], undefended) is deaf
    # A modality that the defended model lacks, or that carried nothing to begin with, has nothing to keep.
    blind = carrying(0.9, textual=0.25)
    assert choose([blind, hears], undefended) is blind
    quiet = carrying(0.9, visual=0.005, textual=0.25)
    assert choose([quiet, hears], carrying(0.1, visual=0.019, textual=0.25)) is quiet
    assert choose([quiet, hears], carrying(0.1, visual=0.021, textual=0.25)) is hears
    # What nobody measured excludes none.
    untold = {name: value for name, value in deaf.items() if name != "validation_carries"}
    assert choose([untold, hears], undefended) is untold


def test_the_page_tells_what_was_passed_over_and_what_is_not_known(small):
    undefended = carrying(0.1, visual=0.125, textual=0.25)
    deaf, hears = carrying(0.9, visual=0.05, textual=0.375), carrying(0.8, visual=0.125, textual=0.25)
    untold = {name: value for name, value in hears.items() if name != "validation_carries"}

    def told(*tried, chosen, by=undefended):
        rows = [
            {"defense": "none", "candidates": [by], "chosen": {}},
            {"defense": "D", "candidates": list(tried), "chosen": chosen["arguments"]},
        ]
        return unheard(rows)

    assert told(deaf, hears, chosen=hears) == (
        "- Passed over on validation, though more robust, for a modality that carries too little: `D` (budget 0.9)"
    )
    assert told(hears, carrying(0.7, visual=0.05, textual=0.3), chosen=hears) == ""
    assert told(deaf, carrying(0.7, clean=0.9), chosen=deaf) == (
        "- No candidate that keeps the clean recall keeps what every modality carries: `D`"
    )
    assert told(untold, carrying(0.7, visual=0.125, textual=0.25), chosen=untold) == (
        "- It is not known what modalities carry on validation in what was chosen of: `D`"
    )
    assert told(deaf, hears, chosen=deaf, by=untold) == (
        "- What modalities carry on validation is not known here: nothing was passed over for it"
    )
    assert told(hears, chosen=hears) == ""


class Records:
    """Stands in for a trainer whose records are given, by the budget."""

    data, device = mr.synthetic(num_users=10, num_items=10), "cpu"

    def __init__(self, given, measured):
        self.given, self.measured, self.asked = given, measured, []

    def __call__(self, model, label, arguments, seed):
        return self.given[arguments.get("budget", "none")]

    def anew(self, model, label, arguments, seed):
        self.asked.append(arguments["budget"])
        return self.measured[arguments["budget"]]

    def carrying(self, record):
        return dict(record)

    def knows(self, *_):
        return False

    def tested(self, model, label, arguments, seed):
        return {"seed": seed}


def test_a_search_asks_what_its_choice_carries_before_it_takes_it(small, monkeypatch):
    def candidate(budget, *, told, **carries):
        record = {name: value for name, value in carrying(budget, **carries).items() if name != "arguments"}
        return record if told else {name: value for name, value in record.items() if name != "validation_carries"}

    monkeypatch.setitem(spaces(), "defenses", {"none": {}, "AdversarialTraining": {"budget": [0.9, 0.8, 0.7]}})
    monkeypatch.setitem(spaces(), "search", SMALL["search"] | {"seeds": [0]})
    undefended = candidate(0.1, told=True, visual=0.125)
    deaf, hears = {"visual": 0.05}, {"visual": 0.1}

    def searched(first, by=undefended):
        given = {"none": by, 0.9: first, 0.8: candidate(0.8, told=False), 0.7: candidate(0.7, told=True, **hears)}
        measured = {0.9: candidate(0.9, told=True, **deaf), 0.8: candidate(0.8, told=True, **hears)}
        trainer = Records(given, measured)
        return search("shop", "VBPR", "AdversarialTraining", trainer, 1)["chosen"]["budget"], trainer.asked

    assert searched(candidate(0.9, told=True, **deaf)) == (0.8, [0.8])
    assert searched(candidate(0.9, told=False)) == (0.8, [0.9, 0.8])
    assert searched(candidate(0.9, told=True, **hears)) == (0.9, [])
    assert searched(candidate(0.9, told=False), candidate(0.1, told=False)) == (0.9, [])


def test_what_modalities_carry_is_measured_once_on_the_model_of_the_record(small, folder, tmp_path, monkeypatch):
    data = read_data("shop", folder)
    trainer = Trainer(data, tmp_path, False)
    record = trainer("VBPR", "none", {}, 0)
    told = trainer.carrying(record)
    shares = mr.evaluation.modality_shares(mr.load_model(tmp_path / record["file"]), data, split="val")
    assert told == record | {"validation_carries": shares}
    monkeypatch.setattr(room, "modality_shares", None)
    assert trainer.carrying(record) == told
    # Another training of the same, on another device, has figures of its own.
    assert "validation_carries" not in trainer.carrying(record | {"validation": record["validation"] + 1e-3})
    assert "validation_carries" not in Trainer(data, tmp_path / "elsewhere", False).carrying(record)


def test_what_one_result_tells_of_a_model_is_not_lost_to_another(tmp_path):
    def result(*records):
        return {"candidates": list(records), "runs": []}

    about = {"file": "a", "attacks_key": "key", "validation": 0.5}
    (tmp_path / "A.json").write_text(json.dumps(result(about | {"validation_carries": {"visual": {}}})))
    (tmp_path / "B.json").write_text(json.dumps(result(about)))
    assert told_by(tmp_path)["a", "key"]["validation_carries"] == {"visual": {}}
    (tmp_path / "C.json").write_text(json.dumps(result(about | {"validation": 0.6})))
    assert "validation_carries" not in told_by(tmp_path)["a", "key"]


def test_what_was_chosen_is_what_the_rule_chooses():
    searched = 0
    for path in sorted(RESULTS.glob("*/*.json")):
        result = json.loads(path.read_text())
        none = path.with_name(f"{options.file_name(result['model'], 'none')}.json")
        if "runs" in result and none.exists():
            undefended = json.loads(none.read_text())["candidates"][0]
            assert result["chosen"] == choose(result["candidates"], undefended)["arguments"], path
            searched += len(result["candidates"]) > 1
    assert searched > 0


def test_what_is_reported_is_what_the_stored_models_do(small, folder, work):
    data = read_data("shop", folder)
    trainer = Trainer(data, work, False)
    result = search("shop", "VBPR", "AdversarialTraining", trainer, 2)
    assert [c["arguments"] for c in result["candidates"]] == candidates("AdversarialTraining")
    assert [r["seed"] for r in result["runs"]] == [0, 1]
    for run in result["runs"]:
        model = mr.load_model(work / run["file"])
        assert run["test"]["clean"] == mr.evaluate(model, data, k=(10, 20))
        assert [(a["attack"], a["modalities"]) for a in run["test"]["attacks"]] == [
            ("PGD", ["visual"]), ("PGD", ["textual"]), ("PGD", ["visual", "textual"]), ("suite", ["visual", "textual"]),
        ]  # fmt: skip
        jointly = run["test"]["attacks"][2]
        again = mr.attacks.PGD()(model, data, mr.attacks.ThreatModel(["visual", "textual"], 0.05))
        assert jointly["recall@20"] == again.after["recall@20"]
        assert run["test"]["attacks"][3]["recall@20"] <= run["test"]["clean"]["recall@20"]
        assert set(run["test"]["carries"]) == {"visual", "textual"}
    chosen = choose(result["candidates"], trainer("VBPR", "none", {}, 0))
    assert result["chosen"] == chosen["arguments"]
    assert result["runs"][0]["file"] == chosen["file"]


def test_controls_are_what_they_are_called(small, folder, work, monkeypatch):
    trainer = Trainer(read_data("shop", folder), work, False)
    dropped = search("shop", "VBPR", "without visual", trainer, 1)["runs"][0]
    assert mr.load_model(work / dropped["file"]).modalities == ("textual",)
    assert {tuple(a["modalities"]) for a in dropped["test"]["attacks"]} == {("textual",)}
    scaled = {"name": "VBPR", "arguments": {"embedding_dim": 8, "feature_scale": {"visual": 0.3, "textual": 2.0}}}
    monkeypatch.setitem(spaces()["models"], "VBPR scaled", scaled)
    blind = mr.load_model(work / trainer("VBPR scaled", "without visual", {}, 0)["file"])
    assert blind.feature_scale == {"textual": 2.0}
    trained = search("shop", "VBPR", "blind, trained", trainer, 1)["runs"][0]
    assert trained["file"] != dropped["file"]
    assert trained["validation_attacked"] != dropped["validation_attacked"]
    ids = search("shop", "VBPR", "ids only", trainer, 1)["runs"][0]
    assert type(mr.load_model(work / ids["file"])).__name__ == "BPRMF"
    assert ids["test"]["attacks"] == []
    assert ids["epochs"] <= 5
    free = trainer("VBPR", "FreeAdversarialTraining", candidates("FreeAdversarialTraining")[0], 0)
    assert free["epochs"] <= 3


def test_some_begin_with_the_trained_model_of_the_same_seed(small, folder, work, monkeypatch):
    monkeypatch.setitem(spaces(), "defenses", SMALL["defenses"] | {
        "warm": {
            "name": "AdversarialTraining", "start": "none", "training": {"min_epochs": 0.5},
            "fixed": {"weight": 0.5, "budget": 0.1},
        },
        "Smoothed": {"fixed": {"samples": 2}, "sigma": [0.1, 0.5]},
        "cold": {"name": "AdversarialTraining", "fixed": {"weight": 0.5, "budget": 0.1}},
    })  # fmt: skip
    data = read_data("shop", folder)
    trainer = Trainer(data, work, False)
    for seed in (0, 1):
        plain = mr.load_model(work / trainer("VBPR", "none", {}, seed)["file"])
        expected = copy.deepcopy(plain)
        mr.fit(
            expected, data, mr.defenses.AdversarialTraining(weight=0.5, budget=0.1), seed=seed, progress=False,
            max_epochs=6, min_epochs=3, patience=3, eval_every=1, batch_size=64, learning_rate=0.02,
        )  # fmt: skip
        warm = trainer("VBPR", "warm", candidates("warm")[0], seed)
        found = mr.load_model(work / warm["file"]).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
        assert warm["best_epoch"] >= 2
        assert trainer("VBPR", "cold", candidates("cold")[0], seed)["file"] != warm["file"]
        around = [trainer("VBPR", "Smoothed", arguments, seed) for arguments in candidates("Smoothed")]
        assert len({record["file"] for record in around}) == 2
        one, two = (mr.load_model(work / record["file"]) for record in around)
        assert (one.samples, one.sigma, two.sigma) == (2, 0.1, 0.5)
        assert all(torch.equal(one.model.state_dict()[name], value) for name, value in plain.state_dict().items())
        assert around[1]["validation"] == mr.evaluate(two, data, split="val", k=(20,))["recall@20"]
        assert around[0]["epochs"] == trainer("VBPR", "none", {}, seed)["epochs"]
    result = search("shop", "VBPR", "Smoothed", trainer, 1)
    assert result["runs"][0]["test"]["attacks"][-1]["attack"] == "suite"


def test_a_backbone_has_a_form_and_a_defense_a_wrapper_of_its_own_label(
    small, light_attacks, folder, tmp_path, monkeypatch
):
    small_graph = {"embedding_dim": 8, "knn_k": 3}
    monkeypatch.setitem(spaces(), "models", {
        "LATTICE": {"arguments": small_graph, "training": {"max_epochs": 2}},
        "LATTICE every step": {
            "name": "LATTICE", "arguments": small_graph | {"refresh_every": 1}, "training": {"max_epochs": 2},
        },
    })  # fmt: skip
    monkeypatch.setitem(spaces(), "defenses", {
        "none": {"control": True},
        "trained": {"control": True, "name": "AdversarialTraining", "fixed": {"budget": 0.1}},
        "trained, soft": {
            "control": True, "name": "AdversarialTraining", "fixed": {"budget": 0.1},
            "wrapper": {"name": "TrustedItemGraph", "floor": 1.0},
        },
    })  # fmt: skip
    out = tmp_path / "out"
    for model in ("LATTICE", "LATTICE every step"):
        main("shop", model, only="", seeds=1, folder=folder, work=tmp_path, out=out, progress=False, threads=0)
    told = {path.stem: json.loads(path.read_text()) for path in (out / "shop").iterdir()}
    assert set(told) == {
        f"{model}-{label}"
        for model in ("LATTICE", "LATTICE-every-step")
        for label in ("none", "trained", "trained-soft")
    }
    assert "refused" in told["LATTICE-trained"]
    plain, soft = (
        mr.load_model(tmp_path / "shop" / told[f"LATTICE-every-step-{label}"]["runs"][0]["file"])
        for label in ("trained", "trained-soft")
    )
    assert (type(plain), plain.refresh_every) == (mr.models.LATTICE, 1)
    assert isinstance(soft, mr.defenses.TrustedItemGraph)
    assert (soft.floor, soft.model.refresh_every) == (1.0, 1)
    data = read_data("shop", folder)
    seed = spaces()["search"]["seeds"][0]
    expected = mr.models.LATTICE.from_data(data, **small_graph, refresh_every=1, seed=seed)
    expected = mr.defenses.TrustedItemGraph(expected, data, floor=1.0, seed=seed)
    training = spaces()["training"] | {"max_epochs": 2}
    mr.fit(expected, data, mr.defenses.AdversarialTraining(budget=0.1), seed=seed, progress=False, **training)
    found = soft.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
    assert "## shop, LATTICE every step" in page(out)
    file = tmp_path / "cost.json"
    with pytest.raises(ConfigError, match="did you mean 'LATTICE every step'"):
        measure("shop", only="LATTICE,LATTICE every stp", defenses="", threads=0, folder=folder, out=file)
    assert not file.exists()
    measure("shop", only="LATTICE every step", defenses="", threads=0, folder=folder, out=file)
    measured = json.loads(file.read_text())["models"]
    assert {name: set(found["measured"]) for name, found in measured.items()} == {
        "LATTICE every step": {"trained", "trained, soft"}
    }


def test_the_test_split_has_no_part_in_the_choice(small, folder, tmp_path):
    data = read_data("shop", folder)
    other = copy.deepcopy(data)
    edges = other[INTERACTS].edge_index
    free = torch.ones(40, 40, dtype=torch.bool)
    free[edges[0], edges[1]] = False
    for position in other[INTERACTS].test_mask.nonzero().flatten():
        user = edges[0, position]
        edges[1, position] = free[user].nonzero()[0, 0]
        free[user, edges[1, position]] = False
    one, two = (
        search("shop", "VBPR", "AdversarialTraining", Trainer(d, tmp_path / n, False), 1)
        for d, n in ((data, "a"), (other, "b"))
    )
    for key in ("validation", "validation_attacked", "validation_carries"):
        assert [c[key] for c in one["candidates"]] == [c[key] for c in two["candidates"]]
    assert one["chosen"] == two["chosen"]
    assert one["runs"][0]["test"] != two["runs"][0]["test"]


def test_a_killed_search_goes_on_to_the_same_numbers(small, folder, tmp_path, monkeypatch):
    def run(place):
        return search("shop", "VBPR", "AdversarialTraining", Trainer(read_data("shop", folder), place, False), 1)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(trained, "fit", Counted(last=8))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    again = run(tmp_path / "killed")
    assert counted.trainings == 2  # of three: the first was done
    assert [r["test"]["attacks"] for r in again["runs"]] == [r["test"]["attacks"] for r in whole["runs"]]
    assert [c["validation"] for c in again["candidates"]] == [c["validation"] for c in whole["candidates"]]


def test_more_seeds_are_added_to_what_a_result_tells(small, light_attacks, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(spaces(), "defenses", SMALL["defenses"] | {
        "warm": {"name": "AdversarialTraining", "start": "none", "budget": [0.05, 0.1]},
        "Smoothed": {"fixed": {"samples": 2}, "sigma": [0.1, 0.5]},
    })  # fmt: skip
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)

    def run(seeds, work, out, labels="none;AdversarialTraining;warm;Smoothed"):
        counted.trainings = 0
        main(
            "shop", "VBPR", only=labels, seeds=seeds, folder=folder, work=tmp_path / work, out=tmp_path / out,
            progress=False, threads=0,
        )  # fmt: skip
        return {path.stem: json.loads(path.read_text()) for path in (tmp_path / out / "shop").glob("*.json")}

    def told(results):
        """What does not differ from one machine and hour to another."""
        if isinstance(results, dict):
            return {k: told(v) for k, v in results.items() if k not in ("seconds", "provenance")}
        return [told(x) for x in results] if isinstance(results, list) else results

    whole = run(2, "whole", "both")
    first = run(1, "first", "one")
    assert run(1, "elsewhere", "one") == first | {
        name: result
        | {"provenance": json.loads((tmp_path / "one" / "shop" / f"{name}.json").read_text())["provenance"]}
        for name, result in first.items()
    }
    assert counted.trainings == 0
    assert not list((tmp_path / "elsewhere" / "shop").glob("*.safetensors"))
    added = run(2, "elsewhere", "one")
    # One of each with the second seed; nothing is trained around which Smoothed is put.
    assert counted.trainings == 3
    assert told(added) == told(whole)
    assert added["VBPR-warm"]["runs"][0] == first["VBPR-warm"]["runs"][0]
    # Fewer are no reason to forget the others.
    assert told(run(1, "elsewhere", "one")) == told(whole)
    assert counted.trainings == 0
    # What is chosen in one file and a mere candidate in the next one keeps its test.
    chosen = whole["VBPR-AdversarialTraining"]["chosen"]
    monkeypatch.setitem(spaces()["defenses"], "A control", {
        "control": True, "name": "AdversarialTraining", "fixed": chosen,
    })  # fmt: skip
    run(2, "control", "one", "A control")
    assert counted.trainings == 0
    # Judged by something else: all is done again, and the test with it.
    monkeypatch.setitem(spaces(), "search", SMALL["search"] | {"budget": 0.1})
    again = run(1, "later", "one", "none")["VBPR-none"]
    assert counted.trainings == 1
    assert len(again["runs"]) == 1
    assert again["runs"][0]["provenance"] != whole["VBPR-none"]["runs"][0]["provenance"]
    assert again["runs"][0]["test"]["provenance"] != added["VBPR-none"]["runs"][0]["test"]["provenance"]
    monkeypatch.setitem(spaces(), "test", {"budgets": [0.05, 0.1]})
    again = run(1, "later", "one", "none")["VBPR-none"]
    assert counted.trainings == 0  # its model lies there
    assert [a["budget"] for a in again["runs"][0]["test"]["attacks"][::4]] == [0.05, 0.1]


def test_a_record_without_its_model_is_no_training_that_was_done(small, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(spaces(), "defenses", SMALL["defenses"] | {
        "warm": {"control": True, "name": "AdversarialTraining", "start": "none", "fixed": {"budget": 0.1}},
    })  # fmt: skip
    trainer = Trainer(read_data("shop", folder), tmp_path, False)
    plain = trainer("VBPR", "none", {}, 0)
    (tmp_path / plain["file"]).unlink()
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    assert trainer("VBPR", "warm", {"budget": 0.1}, 0)["file"] != plain["file"]
    assert counted.trainings == 2
    assert trainer("VBPR", "none", {}, 0)["validation"] == plain["validation"]
    assert counted.trainings == 2


def test_what_results_tell_is_told_by_attacks_and_file(tmp_path):
    def write(name, **result):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))

    record = {"file": "a", "seed": 0, "arguments": {"x": 1}, "attacks_key": "v", "validation": 0.5}
    write("b", candidates=[record], runs=[{**record, "test": {"clean": 1, "attacks_key": "t"}}])
    write("c", candidates=[record, {"file": "b"}], runs=[])
    write("d", refused="nothing to act on")
    assert told_by(tmp_path) == {
        ("a", "v"): {"file": "a", "seed": 0, "attacks_key": "v", "validation": 0.5},
        ("a", "t"): {"clean": 1, "attacks_key": "t"},
    }
    assert told_by(tmp_path / "nowhere") == {}


def entry(defense, clean, left, seeds=1, flags=None):
    def run(seed):
        every = ["visual", "textual"]
        attacks = [{"attack": "PGD", "modalities": [m], "budget": 0.05, "recall@20": left + 0.01} for m in every]
        attacks.append(
            {"attack": "suite", "modalities": every, "budget": 0.05, "recall@20": left, "flags": flags or {}}
        )
        carries = {m: {"clean": clean, "mean_features": clean - 0.03} for m in every}
        key = room.attacks_key(False, "test")
        test = {"clean": {"recall@20": clean + seed / 1000}, "attacks": attacks, "carries": carries, "attacks_key": key}
        return {"seed": seed, "epochs": 10, "seconds": 5.0, "test": test}

    return {
        "dataset": "shop", "model": "VBPR", "defense": defense, "chosen": {"budget": 0.1},
        "candidates": [{"validation": clean}] * 3, "runs": [run(seed) for seed in range(seeds)],
    }  # fmt: skip


def test_the_page_tells_what_a_gpu_computed(small):
    results = [entry("Fog", 0.2, 0.1, seeds=2), entry("Rain", 0.2, 0.1, seeds=2), entry("Sun", 0.2, 0.1)]
    assert elsewhere(results) == ""
    for run in (*results[1]["runs"], results[0]["runs"][1]):
        run["test"]["provenance"] = {"device": "cuda"}
    results[2]["runs"][0]["test"]["provenance"] = {"device": "cpu"}
    assert elsewhere(results) == "- Computed on cuda, all else on a CPU: `Fog` (seed 1), `Rain` (seed 0, 1)"
    # Its name is told, and so are a training elsewhere and candidates.
    results[2]["runs"][0]["provenance"] = {"device": "cuda:0", "machine": "Linux x86_64, 1 threads, Big GPU"}
    assert elsewhere(results[2:]) == "- Computed on Big GPU, all else on a CPU: `Sun` (seed 0)"
    results[2]["candidates"] = [{"provenance": {"device": "cuda"}}, {}]
    assert "`Sun` (candidates; seed 0)" in elsewhere(results)


def test_a_device_that_is_not_there_is_told_before_anything_is_read(small, tmp_path):
    for program, arguments in ((main, ("shop", "VBPR")), (ablation, ("shop", "VBPR", "AdversarialTraining"))):
        with pytest.raises(ConfigError, match="'device' expects one that torch can use here"):
            program(*arguments, device="nowhere", folder=tmp_path / "nothing", out=tmp_path)
    with pytest.raises(ConfigError, match="'device' expects one that torch can use here"):
        measure("shop", only="VBPR", device="nowhere", folder=tmp_path / "nothing", out=tmp_path / "cost.json")


def test_panels_of_another_device_are_not_kept(small, folder, tmp_path):
    path = tmp_path / "ablation-shop-VBPR-AdversarialTraining.json"
    path.write_text(json.dumps({"device": "Big GPU", "panels": {}}))
    with pytest.raises(ConfigError, match="holds panels of Big GPU: name another folder by --out"):
        ablation("shop", "VBPR", "AdversarialTraining", only="weight", folder=folder, work=tmp_path, out=tmp_path)


def test_the_table_tells_declines_beside_the_undefended_one(small):
    rows = table([entry("none", 0.2, 0.1, seeds=3), entry("Armour", 0.2, 0.18)]).splitlines()
    assert [r.split(" | ")[0] for r in rows[2:]] == ["| Armour", "| none"]
    assert "\N{MINUS SIGN}10 % (0.20)" in rows[2]
    assert "0.2010 ± 0.0010" in rows[3]
    assert "0.0300" in rows[2]
    assert rows[2].startswith("| Armour | 3 | 1 | ")
    worse = entry("Armour", 0.2, 0.18)
    worse["runs"][0]["test"]["attacks"][1]["recall@20"] = 0.15
    assert "| 0.1900 | **0.1500** |" in table([worse])
    assert "(0.20) | budget 0.1" in rows[2]


def test_the_command_writes_entries_pictures_and_a_page(small, folder, work, tmp_path):
    where = {"folder": folder, "work": work, "out": tmp_path, "progress": False, "threads": 0}
    main("shop", "VBPR", only="none;without visual", seeds=1, **where)
    assert sorted(p.name for p in (tmp_path / "shop").iterdir()) == ["VBPR-none.json", "VBPR-without-visual.json"]
    ablation("shop", "VBPR", "AdversarialTraining", **where)
    picture = tmp_path / "ablation-shop-VBPR-AdversarialTraining.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "shop" / "VBPR-flagged.json").write_text(
        json.dumps(entry("Fog", 0.2, 0.2, flags={"no_gradient": "it saw nothing"}))
    )
    (tmp_path / "cost.json").write_text(
        json.dumps(
            {
                "device": "cpu",
                "models": {"VBPR": {"dataset": "shop", "threads": 1, "measured": {"Fog": {"seconds": 3, "plain": 2}}}},
            }
        )
    )
    text = page(tmp_path)
    assert "| none | 2.00 s |" in text
    assert "| Fog | 1.50 |" in text
    assert "- Fog, `no_gradient`: it saw nothing (at 0.05)" in text
    assert "![" in text
    assert picture.name in text
    assert text.count("\n| ") == 1 + 3 + 3


def test_an_ablation_has_every_value_once_and_trains_the_base_once(small, folder, tmp_path, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    trainer = Trainer(read_data("shop", folder), tmp_path, False)
    result = {"dataset": "shop"} | ablate(trainer, "VBPR", "AdversarialTraining")
    assert counted.trainings == 4  # the base is a point of both panels; and the undefended model
    assert [[p["value"] for p in panel] for panel in result["panels"].values()] == [[0.0, 0.1], [1, 2]]
    assert result["base"] == {"budget": 0.1, "steps": 1}
    assert result["panels"]["budget"][1]["attacked"] == result["panels"]["steps"][0]["attacked"]
    draw(result, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


def test_an_ablation_goes_on_with_some_arguments(small, folder, work, tmp_path, monkeypatch):
    where = {"folder": folder, "work": work, "out": tmp_path, "progress": False, "threads": 0}
    ablation("shop", "VBPR", "AdversarialTraining", only="steps", **where)
    path = tmp_path / "ablation-shop-VBPR-AdversarialTraining.json"
    first = json.loads(path.read_text())
    assert list(first["panels"]) == ["steps"]
    monkeypatch.setitem(spaces()["ablations"]["AdversarialTraining"], "steps", [1, 2, 3])
    shown = []
    monkeypatch.setattr(Axes, "set_xticks", lambda axis, places, labels: shown.append(labels))
    monkeypatch.setitem(spaces()["ablations"]["AdversarialTraining"], "budget", [0.0])
    ablation("shop", "VBPR", "AdversarialTraining", only="budget", **where)
    both = json.loads(path.read_text())
    assert both["panels"]["steps"] == first["panels"]["steps"]
    assert [p["value"] for p in both["panels"]["budget"]] == [0.0]
    # The base's own value stands in every panel.
    assert shown == [["0", "0.1"], ["1", "2"]]
    with pytest.raises(ConfigError, match="unknown argument that is ablated 'stops'; did you mean 'steps'"):
        ablation("shop", "VBPR", "AdversarialTraining", only="stops", **where)
    path.write_text(json.dumps(both | {"undefended": {"clean": 0.5, "attacked": 0.1}}))
    with pytest.raises(ConfigError, match="undefended figures are"):
        ablation("shop", "VBPR", "AdversarialTraining", only="steps", **where)
    assert json.loads(path.read_text())["undefended"]["clean"] == 0.5


def test_the_cost_is_that_of_every_defense_that_plugs_in(small, folder):
    found = cost(read_data("shop", folder), "VBPR")
    assert list(found) == ["none", "AdversarialTraining", "FreeAdversarialTraining"]
    assert all(seconds > 0 for seconds in found.values())
    for wrong in ("without visual", "Fog"):
        with pytest.raises(ConfigError, match="unknown defense that acts in training"):
            cost(read_data("shop", folder), "VBPR", ["none", wrong])


def test_costs_stand_beside_the_plain_epoch_of_their_own_hour(small, folder, tmp_path, monkeypatch):
    seconds = [{"none": 2.0, "AdversarialTraining": 3.0}, {"none": 4.0, "FreeAdversarialTraining": 8.0}]
    monkeypatch.setattr("benchmarks.defenses.cost.cost", lambda *_: seconds.pop(0))
    for _ in range(2):
        measure("shop", only="VBPR", threads=1, folder=folder, out=tmp_path / "cost.json", defenses="")
    text = page(tmp_path)
    assert "| none | 2.00 to 4.00 s |" in text
    assert "| AdversarialTraining | 1.50 |" in text
    assert "| FreeAdversarialTraining | 2.00 |" in text
    assert text.count("## Cost") == 1
    with pytest.raises(ConfigError, match="cost.json holds what was measured on cpu: name another file by --out"):
        monkeypatch.setattr("benchmarks.defenses.cost.device_name", lambda _: "Big GPU")
        measure("shop", only="VBPR", threads=1, folder=folder, out=tmp_path / "cost.json", defenses="")
    assert "## Cost: Big GPU" not in text
    seconds.append({"none": 0.5, "AdversarialTraining": 1.5})
    measure("shop", only="VBPR", threads=1, folder=folder, out=tmp_path / "cost-big.json", defenses="")
    text = page(tmp_path)
    assert text.index("## Cost\n") < text.index("## Cost: Big GPU") < text.index("| AdversarialTraining | 3.00 |")


def test_the_page_shows_every_backbone_with_something_to_compare(small, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(Axes, "errorbar", lambda axis, x, y, label, **_: drawn.setdefault(label, (x, y)))
    shop = tmp_path / "shop"
    shop.mkdir()
    ids = entry("ids only", 0.25, 0.0)
    ids["runs"][0]["test"] |= {"attacks": [], "carries": {}}
    results = [entry("none", 0.3, 0.1, seeds=2), entry("Fog", 0.29, 0.2), ids]
    (shop / "VBPR-0.json").write_text(json.dumps(results[0]))
    write(tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == []
    assert "overview" not in (tmp_path / "README.md").read_text()
    (shop / "VBPR-1.json").write_text(json.dumps(results[1]))
    (shop / "VBPR-2.json").write_text(json.dumps(ids))
    (shop / "VBPR-3.json").write_text(json.dumps({"model": "VBPR", "defense": "Rain", "refused": "nothing to do"}))
    write(tmp_path)
    assert (tmp_path / "overview-shop.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "README.md").read_text()
    assert "](overview-shop.png)" in text
    assert "with features multiplied" not in text
    scaled = {"name": "VBPR", "arguments": {"feature_scale": {"visual": 0.5}}}
    monkeypatch.setitem(spaces(), "models", {"VBPR": scaled})
    assert "## shop, VBPR\n\nAs VBPR, with features multiplied: visual by 0.5.\n\n|" in page(tmp_path)
    # From below: undefended, Fog, and what no attack reaches.
    assert drawn["clean"] == ([pytest.approx(0.3005), 0.29, 0.25], [0, 1, 2])
    assert drawn["suite, 5 %"] == ([0.1, 0.2], [0, 1])


def test_rows_that_other_attacks_judged_stand_apart(small, tmp_path):
    today = room.attacks_key(False, "test")
    assert len({today, room.attacks_key(True, "test"), room.attacks_key(False, "validation")}) == 3
    results = [entry("Fog", 0.3, 0.2, seeds=2), entry("Rain", 0.3, 0.2), entry("Snow", 0.3, 0.2)]
    for result, key in zip(results, (today, "another", today), strict=True):
        for run in result["runs"]:
            run["test"]["attacks_key"] = key
    ids = entry("ids only", 0.25, 0.0)
    ids["runs"][0]["test"] |= {"attacks": [], "carries": {}}
    fog, rain, snow = results
    assert by_attacks([*results, ids]) == ([fog, snow, ids], [rain])
    (tmp_path / "shop").mkdir()
    for place, result in enumerate(results):
        (tmp_path / "shop" / f"VBPR-{place}.json").write_text(json.dumps(result))
    text = page(tmp_path)
    assert text.index("| Snow |") < text.index("Judged by attacks of before") < text.index("| Rain |")
    del fog["runs"][1]["test"]["attacks_key"]
    assert by_attacks([fog, rain]) == ([], [fog, rain])
    assert by_attacks([rain, ids]) == ([], [rain, ids])


def test_rows_that_were_searched_and_never_kept_the_clean_recall_are_named(small):
    def result(defense, *clean):
        return {"defense": defense, "candidates": [{"validation": value} for value in clean]}

    results = [result("none", 1.0), result("Fog", 0.97, 0.975), result("Rain", 0.97, 0.985), result("Snow", 0.9)]
    assert beyond(results) == "- No candidate keeps the clean recall on validation: `Fog`"
    assert beyond(results[:1] + results[2:]) == beyond(results[1:]) == ""


def test_parts_of_the_undefended_decline_are_of_the_same_seeds():
    def result(defense, *runs):
        # What the suite leaves of a clean recall of one, by seed.
        return {
            "defense": defense, "model": "VBPR", "candidates": [{}], "chosen": {},
            "runs": [entry(defense, 1.0, left)["runs"][0] | {"seed": seed} for seed, left in runs],
        }  # fmt: skip

    rows = table([result("none", (0, 0.2), (1, 0.6)), result("Fog", (0, 0.6))]).split("\n")
    assert "40 % (0.50)" in next(row for row in rows if "| Fog |" in row)
    rows = table([result("none", (0, 0.2)), result("Fog", (0, 0.6), (1, 0.2))]).split("\n")
    assert "60 % (0.50)" in next(row for row in rows if "| Fog |" in row)
    rows = table([result("none", (0, 0.2)), result("Fog", (1, 0.2))]).split("\n")
    assert "80 % |" in next(row for row in rows if "| Fog |" in row)


def test_more_seeds_than_there_are_is_refused(small, folder, work):
    with pytest.raises(ConfigError, match="at most the"):
        search("shop", "VBPR", "none", Trainer(read_data("shop", folder), work, False), 99)


def test_an_ablation_leaves_out_what_the_data_lack(small, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(spaces()["defenses"], "ModalityBalancing", {})
    plan = {"base": {"sensitive": "all", "weight": 0.1}, "sensitive": ["visual", "odour", "all"], "eps": [math.inf]}
    monkeypatch.setitem(spaces()["ablations"], "ModalityBalancing", plan)
    result = ablate(Trainer(read_data("shop", folder), tmp_path, False), "VBPR", "ModalityBalancing")
    assert [point["value"] for point in result["panels"]["sensitive"]] == ["visual", "all"]
    assert [point["value"] for point in result["panels"]["eps"]] == [None]
    wrong = {"base": {"sensitive": "all"}, "weight": [0.1], "scope": ["row", "column"]}
    monkeypatch.setitem(spaces()["ablations"], "ModalityBalancing", wrong)
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    with pytest.raises(ConfigError, match="scope"):
        ablate(Trainer(read_data("shop", folder), tmp_path, False), "VBPR", "ModalityBalancing")
    assert counted.trainings == 0


def test_what_was_judged_is_judged_once_for_the_same_budgets(small, folder, work, monkeypatch):
    trainer = Trainer(read_data("shop", folder), work, False)
    first = search("shop", "VBPR", "none", trainer, 1)
    counted = Counted()
    monkeypatch.setattr(trained, "fit", counted)
    asked = []
    attacked = Trainer.attacked
    monkeypatch.setattr(Trainer, "attacked", lambda *args: asked.append(1) or attacked(*args))
    assert search("shop", "VBPR", "none", trainer, 1)["runs"] == first["runs"]
    assert asked == []
    monkeypatch.setitem(spaces(), "search", SMALL["search"] | {"budget": 0.5})
    again = search("shop", "VBPR", "none", trainer, 1)
    assert len(asked) == 1
    assert counted.trainings == 0
    assert again["candidates"][0]["validation_attacked"] < first["candidates"][0]["validation_attacked"]


def test_the_page_is_that_of_the_results():
    if (RESULTS / "README.md").exists():
        assert (RESULTS / "README.md").read_text() == page(RESULTS)
