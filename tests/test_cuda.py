"""What moves between the devices."""

from typing import get_args

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import (
    APGD,
    MIM,
    PGD,
    SPSA,
    GraphRelaxation,
    MinimalBudget,
    NeighbourSwap,
    Noise,
    SingleStep,
    Square,
    ThreatModel,
    Transfer,
    Universal,
)
from mmgraph_robust.attacks.base import Kind
from mmgraph_robust.defenses import Defense, Smoothed, TrustedItemGraph
from mmgraph_robust.experiment import RunConfig, run
from mmgraph_robust.models import FREEDOM, GRCN, LATTICE, MMGCN, VBPR
from mmgraph_robust.training import load_model, save_model

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# Every defense that plugs into training, as small as it comes.
OPTIONS = {
    "ModalityBalancing": {"sensitive": "all"},
    "CKD": {"teacher_epochs": 1, "teacher_batch_size": 256, "triples": 20},
    "FreeAdversarialTraining": {"replays": 2},
}
PLUGGED = [
    kind(**OPTIONS.get(name, {}))
    for name in mr.defenses.__all__
    if isinstance(kind := getattr(mr.defenses, name), type) and issubclass(kind, Defense) and kind is not Defense
]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("defense", PLUGGED, ids=lambda d: type(d).__name__)
def test_defended_trainings_run_where_the_model_is(shop, tmp_path, device, defense):
    settings = {"batch_size": 256, "learning_rate": 0.01, "progress": False, "checkpoint": tmp_path / "state.pt"}
    model = GRCN.from_data(shop, embedding_dim=4).to(device)
    mr.fit(model, shop, defense, max_epochs=2, **settings)
    history = mr.fit(GRCN.from_data(shop, embedding_dim=4).to(device), shop, defense, max_epochs=3, **settings)
    assert [record["epoch"] for record in history.records] == [0, 1, 2]
    assert {p.device.type for p in model.parameters()} == {device}
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_models_around_models_are_where_they_are(shop, device):
    model = TrustedItemGraph(FREEDOM.from_data(shop, embedding_dim=4, knn_k=3), shop).to(device)
    mr.fit(model, shop, max_epochs=2, batch_size=256, progress=False)
    smoothed = Smoothed(GRCN.from_data(shop, embedding_dim=4), shop, samples=2).to(device)
    for around in (model, smoothed):
        assert {x.device.type for x in around.state_dict().values()} == {device}
        assert 0 <= mr.evaluate(around, shop)["recall@20"] <= 1
        assert SingleStep()(around, shop, ThreatModel(["visual"], 0.1)).data["item"].x_visual.device.type == "cpu"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN, FREEDOM, LATTICE])
def test_evaluations_run_where_the_model_is_and_find_what_they_find_on_the_cpu(shop, device, kind):
    here = kind.from_data(shop, embedding_dim=4)
    there = kind.from_data(shop, embedding_dim=4).to(device)
    threat = ThreatModel(["visual", "textual"], 0.1)
    through_graph = kind.feature_path == "graph"
    own = [GraphRelaxation(2), NeighbourSwap(2)] if through_graph else [APGD(2), MIM(2), Universal(2)]
    for attack in (*own, SPSA(20)):
        found = attack(there, shop, threat)
        assert all(x.device.type == "cpu" for x in (found.data["item"].x_visual, found.data["item"].x_textual))
        assert 0 <= found.after["recall@20"] <= 1
    shares, expected = (mr.evaluation.modality_shares(model, shop) for model in (there, here))
    assert shares.keys() == expected.keys() == {"visual", "textual"}
    for name, values in shares.items():
        assert values == pytest.approx(expected[name], abs=0.02)
    attacks = {"attack": PGD(2), "minimal": MinimalBudget(2, 2, 2)}
    assert mr.evaluation.diagnose(there, shop, **attacks).keys() == mr.evaluation.diagnose(here, shop, **attacks).keys()
    sensitive = mr.evaluation.find_sensitive(there, shop, attack=own[0])
    assert sensitive is None or sensitive["by_metric"] in ("visual", "textual")
    assert through_graph or sensitive is not None
    if kind is VBPR:
        certified = [mr.evaluation.certify(model, shop, threat).certified for model in (there, here)]
        assert certified[0] == pytest.approx(certified[1], abs=0.02)
    if not through_graph:
        smoothed = mr.evaluation.smoothed_recall(there, shop, threat, sigma=0.1, samples=20)
        assert 0 <= smoothed.expected_lower <= smoothed.expected <= 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_run_computes_where_it_is_told_to(tmp_path, device):
    config = RunConfig({
        "name": "toy", "seeds": [0],
        "data": {"format": "synthetic", "num_users": 60, "num_items": 40, "modalities": {"visual": 6, "textual": 5}},
        "training": {"max_epochs": 2, "batch_size": 128},
        "models": [{"name": "FREEDOM", "embedding_dim": 4, "knn_k": 3}, {"name": "GRCN", "embedding_dim": 4}],
        "defenses": [
            {"name": "none"}, {"name": "ModalityBalancing", "sensitive": "auto", "only": ["GRCN"]},
            {"name": "Smoothed", "only": ["GRCN"]},
        ],
        "attacks": [{"name": "PGD", "steps": 2}, {"name": "Square", "queries": 5}],
    })  # fmt: skip
    entries = run(config, tmp_path / device, progress=False, device=device)
    assert {entry["provenance"]["device"] for entry in entries} == {device}
    assert {(entry["model"], entry["defense"]) for entry in entries} >= {("GRCN", "none"), ("GRCN", "Smoothed")}
    assert run(config, tmp_path / device, progress=False, device=device) == entries


@NEEDS_GPU
@pytest.mark.parametrize("kind", [GRCN, VBPR])
def test_what_began_on_a_gpu_is_attacked_there_and_goes_on_without(shop, tmp_path, kind):
    settings = {"batch_size": 256, "learning_rate": 0.01, "progress": False, "checkpoint": tmp_path / "state.pt"}
    model = kind.from_data(shop, embedding_dim=4).to("cuda")
    mr.fit(model, shop, max_epochs=2, **settings)
    assert {p.device.type for p in model.parameters()} == {"cuda"}

    attacks = [PGD(2), MinimalBudget(2, 2, 2), SingleStep(), Square(5), Transfer(model, PGD(2)), Noise()]
    assert {attack.kind for attack in attacks} == set(get_args(Kind))
    for attack in attacks:
        result = attack(model, shop, ThreatModel(["visual"], 0.1))
        changed = result.data["item"].x_visual
        assert changed.device == shop["item"].x_visual.device
        assert torch.isfinite(changed).all()
        assert 0 <= result.after["recall@20"] <= 1

    save_model(model, tmp_path / "model.safetensors", shop)
    loaded = load_model(tmp_path / "model.safetensors")
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    here, there = mr.evaluation.embed(loaded, shop), mr.evaluation.embed(model, shop)
    for channel in here.channels:
        assert torch.allclose(here.user[channel], there.user[channel].cpu(), atol=1e-4)
        assert torch.allclose(here.item[channel], there.item[channel].cpu(), atol=1e-4)

    resumed = kind.from_data(shop, embedding_dim=4)
    history = mr.fit(resumed, shop, max_epochs=3, **settings)
    assert [record["epoch"] for record in history.records] == [0, 1, 2]
    assert {p.device.type for p in resumed.parameters()} == {"cpu"}
    assert all(torch.isfinite(p).all() for p in resumed.parameters())
