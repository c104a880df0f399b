import sys

import pytest

import mmgraph_robust as mr
from mmgraph_robust import attacks, models
from mmgraph_robust.attacks import Attack
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import find_class, room_classes

SOURCE = "from mmgraph_robust.models import VBPR\n\n\nclass Mine(VBPR):\n    pass\n\n\nthing = 3\n"
POINTS = (
    "Mine = my_shop:Mine\nthing = my_shop:thing\ngone = my_shop:gone\nnowhere = no_such_module:X\n"
    "Other = my_shop:Mine\n"
)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package on the path, as pip would have installed it."""
    (tmp_path / "my_shop.py").write_text(SOURCE)
    info = tmp_path / "my_shop-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_shop\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[mmgraph_robust.models]\n{POINTS}")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_shop", None)


def test_a_class_of_the_room_or_of_a_package(plugin, shop, tmp_path):
    assert find_class("GRCN", models, Recommender) is models.GRCN
    kind = find_class("Mine", models, Recommender)
    assert kind.__module__ == "my_shop"
    model = kind.from_data(shop, embedding_dim=4)
    mr.save_model(model, tmp_path / "m.safetensors")
    assert type(mr.load_model(tmp_path / "m.safetensors")) is kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GRNC", r"did you mean 'GRCN'.*'Mine'"),
        ("thing", "'thing' expects a subclass of Recommender"),
        ("gone", "cannot be imported"),
        ("nowhere", "no_such_module"),
        ("Other", "'Other' expects the name of its class, 'Mine'"),
        (None, "unknown name 'None'"),
    ],
)
def test_what_is_no_model_is_told(plugin, name, message):
    with pytest.raises(ConfigError, match=message):
        find_class(name, models, Recommender)


def test_what_cannot_be_configured_is_left_out():
    found = room_classes(attacks, Attack)
    assert "PGD" in found
    assert "Attack" not in found
    assert all(getattr(kind, "configurable", True) for kind in found.values())
