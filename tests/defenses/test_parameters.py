from mmgraph_robust.defenses.parameters import modality_parameters
from mmgraph_robust.models import GRCN, MMGCN, VBPR


def test_by_name_whole_words_only(tiny):
    found = set(modality_parameters(GRCN.from_data(tiny), "visual"))
    assert found == {"preference.visual", "projection.visual.weight", "projection.visual.bias"}
    assert not modality_parameters(GRCN.from_data(tiny), "visua")
    assert {"preference_visual", "convs.visual.0.weight"} < set(modality_parameters(MMGCN.from_data(tiny), "visual"))


def test_a_modality_whose_name_begins_as_anothers(tiny):
    data = tiny.clone()
    data["item"].x_visual_large = data["item"].x_visual.clone()
    model = VBPR.from_data(data, embedding_dim=4)
    assert set(modality_parameters(model, "visual_large")).isdisjoint(modality_parameters(model, "visual"))
    assert all("visual_large" not in name for name in modality_parameters(model, "visual"))
    assert modality_parameters(model, "visual_large")
