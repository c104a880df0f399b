import torch

from mmgraph_robust.attacks import ThreatModel, Universal


def test_universal_is_one_direction_at_every_items_budget(shop, trained):
    result = Universal(steps=10)(trained, shop, ThreatModel(["visual"], 0.1))
    direction = result.details["directions"]["visual"]
    expected = 0.1 * shop["item"].x_visual.norm(dim=1, keepdim=True) * direction
    assert torch.allclose(result.delta["visual"], expected, atol=1e-4)
    assert float(direction.norm()) <= 1 + 1e-5
    assert result.objective >= result.clean_objective
    whole = Universal(steps=5)(trained, shop, ThreatModel(["visual"], 0.1, "matrix"))
    assert float(whole.delta["visual"].norm(dim=1).std()) < 1e-4
