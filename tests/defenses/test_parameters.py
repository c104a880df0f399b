from mmgraph_robust.defenses.parameters import modality_parameters
from mmgraph_robust.models import GRCN, MMGCN


def test_by_name_whole_words_only(tiny):
    found = set(modality_parameters(GRCN.from_data(tiny), "visual"))
    assert found == {"preference.visual", "projection.visual.weight", "projection.visual.bias"}
    assert not modality_parameters(GRCN.from_data(tiny), "visua")
    assert {"preference_visual", "convs.visual.0.weight"} < set(modality_parameters(MMGCN.from_data(tiny), "visual"))
