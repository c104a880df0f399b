import pytest

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Promote, ThreatModel, attack_worst, expand, modality_sets, pick_items
from mmgraph_robust.errors import ConfigError


def test_the_sensitive_modality_is_the_worst_one(shop, trained):
    threat = ThreatModel(["textual", "visual"], 0.05)
    chosen, result = attack_worst(PGD(steps=8), trained, shop, threat)
    assert list(chosen.modalities) == [shop.sensitive_modality]
    both = [PGD(steps=8)(trained, shop, one).after["recall@20"] for one in expand(threat, ["each"])]
    assert result.after["recall@20"] == min(both)
    targets = pick_items(shop, 3)
    promote = ThreatModel(["textual", "visual"], 0.3, goal=Promote(targets))
    _, result = attack_worst(PGD(steps=8), trained, shop, promote)
    both = [PGD(steps=8)(trained, shop, one).after["exposure@20"] for one in expand(promote, ["each"])]
    assert result.after["exposure@20"] == max(both)


def test_expansion():
    threat = ThreatModel(["a", "b"], 0.2, norm="l1", box={"a": (0.0, 1.0)})
    alone_a, alone_b, both = expand(threat)
    assert [t.modalities for t in (alone_a, alone_b, both)] == [("a",), ("b",), ("a", "b")]
    assert (alone_a.box, alone_b.box, both.box) == ({"a": (0.0, 1.0)}, None, {"a": (0.0, 1.0)})
    assert {t.norm for t in (alone_a, alone_b, both)} == {"l1"}
    assert modality_sets(["a"]) == [["a"]]
    assert modality_sets(["a"], ["all"]) == [["a"]]
    assert modality_sets([]) == []
    assert mr.attacks.expand(threat, ["all"]) == [both]
    assert mr.attacks.expand(threat, ["b", "all"]) == [alone_b, both]


def test_sets_by_name():
    names = ["visual", "textual", "acoustic"]
    assert modality_sets(names, ["all", "acoustic"]) == [["acoustic"], names]
    # The same set however it is named, its names in the order of the data.
    assert modality_sets(names, [["textual", "visual"], ["visual", "textual"]]) == [["visual", "textual"]]
    assert modality_sets(names, ["textual", "each", ["textual"]]) == [["visual"], ["textual"], ["acoustic"]]
    assert modality_sets(names[:2], ["all", ["textual", "visual"]]) == [names[:2]]
    for wrong, message in (
        ("visul", "unknown modality 'visul'; did you mean 'visual'.*'all', 'each'"),
        (["visual", "all"], "unknown modality 'all' .known: 'acoustic', 'textual', 'visual'"),
        (["visual", "visual"], "a set of modalities expects different names, at least one .got .'visual', 'visual'"),
        ([], "a set of modalities expects different names, at least one"),
        (None, "a set of modalities expects a name, or a list of names"),
    ):
        with pytest.raises(ConfigError, match=message):
            modality_sets(names, [wrong])
    with pytest.raises(ConfigError, match="'sets' expects a list .got 'visual'"):
        modality_sets(names, "visual")
