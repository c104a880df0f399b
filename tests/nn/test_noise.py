import pytest
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.nn.noise import seeded_dropout, seeded_gumbel_softmax
from mmgraph_robust.utils import child_generator


def test_without_a_generator_nothing_is_left_to_chance():
    x = torch.randn(5, 3)
    assert torch.equal(seeded_dropout(x, 0.5, None), x)
    assert torch.equal(seeded_gumbel_softmax(x, 0.2, None), torch.softmax(x / 0.2, 1))


def test_dropout_keeps_the_mean_and_repeats():
    x = torch.ones(200, 100, dtype=torch.float64)
    once, again = (seeded_dropout(x, 0.25, child_generator(0, "d")) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, seeded_dropout(x, 0.25, child_generator(1, "d")))
    assert set(once.unique().tolist()) == {0.0, 1 / 0.75}
    assert abs(float(once.mean()) - 1) < 0.02
    assert torch.equal(seeded_dropout(x, 0.0, child_generator(0, "d")), x)


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_rate_that_leaves_nothing_is_told(rate):
    with pytest.raises(ConfigError, match="'rate' expects a share from 0 to below 1"):
        seeded_dropout(torch.ones(3), rate, child_generator(0, "d"))


def test_gumbel_noise_chooses_in_proportion_to_the_softmax():
    """The largest entry under Gumbel noise is a draw from the softmax of the logits."""
    logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).repeat(20000, 1)
    drawn = seeded_gumbel_softmax(logits, 0.5, child_generator(0, "g"))
    assert torch.allclose(drawn.sum(1), torch.ones(20000, dtype=torch.float64))
    share = torch.bincount(drawn.argmax(1), minlength=3) / 20000
    assert torch.allclose(share, torch.softmax(logits[0], 0).float(), atol=0.01)
    assert torch.equal(drawn, seeded_gumbel_softmax(logits, 0.5, child_generator(0, "g")))
