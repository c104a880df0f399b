import hashlib
import io
import pickle

import numpy
import pytest
import torch
from safetensors.torch import save_file

import mmgraph_robust as mr
from mmgraph_robust.data import with_features
from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.models import GRCN, VBPR
from mmgraph_robust.training import load_checkpoint, load_model, save_checkpoint, save_model, trained_on


def test_round_trip_is_bitwise(tmp_path):
    state = {"a": torch.rand(3), "b": {"c": torch.tensor(1.5), "d": [1, "x", None]}, "e": torch.zeros(0).bfloat16()}
    save_checkpoint(tmp_path / "s.pt", state)
    back = load_checkpoint(tmp_path / "s.pt")
    assert torch.equal(back["a"], state["a"])
    assert back["b"]["d"] == [1, "x", None]
    assert back["e"].dtype == torch.bfloat16


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_damage_is_noticed(tmp_path, tiny):
    path = tmp_path / "s.pt"
    save_checkpoint(path, {"a": torch.rand(50)})
    flip(path, -200)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_checkpoint(tmp_path / "none.pt")
    path.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    model = tmp_path / "m.safetensors"
    save_model(VBPR.from_data(tiny), model)
    flip(model, -5)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(model)
    model.write_bytes(model.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot read the model"):
        load_model(model)
    save_file({"a": torch.ones(2)}, model)
    with pytest.raises(CheckpointError, match="class and arguments"):
        load_model(model)


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a file was run')",))


def test_no_code_is_run_from_a_file(tmp_path):
    path = tmp_path / "s.pt"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    # As somebody would write it who knows the format.
    buffer = io.BytesIO()
    torch.save({"a": Trap()}, buffer)
    head = b"mmgraph_robust checkpoint 1 " + hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(head + b"\n" + buffer.getvalue())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "value", [numpy.float64(1.0), Trap(), {1, 2}, [numpy.zeros(2)]], ids=lambda v: type(v).__name__
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, value):
    path = tmp_path / "s.pt"
    with pytest.raises(CheckpointError, match=r"the state\['defense'\]\['x'\]"):
        save_checkpoint(path, {"defense": {"x": value}})
    assert not path.exists()


def test_a_model_knows_what_it_was_trained_on(tmp_path, tiny, shop):
    path = tmp_path / "m.safetensors"
    save_model(VBPR.from_data(tiny), path, tiny)
    other = with_features(tiny, {"visual": tiny["item"].x_visual + 1})
    assert trained_on(path, tiny)
    assert trained_on(path, other)
    assert not trained_on(path, shop)
    save_model(VBPR.from_data(tiny), path)
    assert trained_on(path, shop)


def test_changed_arguments_are_damage(tmp_path, tiny):
    path = tmp_path / "m.safetensors"
    save_model(VBPR.from_data(tiny, reg=1.0), path)
    content = path.read_bytes()
    assert content.count(b'\\"reg\\": 1.0') == 1
    path.write_bytes(content.replace(b'\\"reg\\": 1.0', b'\\"reg\\": 2.0'))
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path)


def test_a_class_that_has_changed_since_is_told(tmp_path, tiny, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_model(VBPR.from_data(tiny), path)
    with monkeypatch.context() as patch:
        patch.setattr(VBPR, "__init__", lambda self, num_users, num_items, feature_dims, *, width=8, seed=0: None)
        with pytest.raises(CheckpointError, match="cannot be built here"):
            load_model(path)
    other = GRCN.from_data(tiny)
    monkeypatch.setattr("mmgraph_robust.training.checkpoint._build", lambda *_: other)
    with pytest.raises(CheckpointError, match="cannot be built here"):
        load_model(path)


def test_a_checkpoint_of_modalities_in_another_order_is_refused(shop, tmp_path):
    names = ["visual", "textual"]
    settings = {"max_epochs": 1, "checkpoint": tmp_path / "c.pt", "progress": False, "monitor": "recall@5"}
    mr.fit(mr.models.SLMRec.from_data(shop, modalities=names), shop, **settings)
    other = mr.models.SLMRec.from_data(shop, modalities=names[::-1])
    with pytest.raises(mr.errors.CheckpointError):
        mr.fit(other, shop, **settings | {"max_epochs": 2})
