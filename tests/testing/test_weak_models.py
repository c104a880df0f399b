import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.testing import WEAK_MODELS, WeakModel, weak_model


@pytest.mark.parametrize("name", WEAK_MODELS)
def test_perfect_as_long_as_nobody_attacks(name):
    model, data = weak_model(name)
    assert isinstance(model, WeakModel)
    quality = mr.evaluate(model, data, k=[3, 5], metrics=["recall"])
    assert quality["recall@3"] == 1 or name == "NoisyFeatures"
    assert quality["recall@5"] > 0.5
    # Whatever was drawn before, and without a draw from the process's own numbers.
    torch.manual_seed(1)
    state = torch.get_rng_state()
    again, same = weak_model(name)
    assert torch.equal(torch.get_rng_state(), state)
    edges, others = (d["user", "interacts", "item"].edge_index for d in (data, same))
    assert torch.equal(edges, others)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert torch.equal(data["item"].x_visual, same["item"].x_visual)


def test_the_name_is_checked():
    assert len(WEAK_MODELS) == 6
    with pytest.raises(ConfigError, match="did you mean 'StaleCache'"):
        weak_model("StaleCash")
