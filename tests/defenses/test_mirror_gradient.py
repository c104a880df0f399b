import pytest

from mmgraph_robust.defenses import MirrorGradient
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import BPRMF, GRCN, LATTICE, VBPR

from .conftest import near, same


@pytest.mark.parametrize("kind", [VBPR, GRCN, BPRMF])
@pytest.mark.parametrize("options", [{}, {"alpha1": 0.7, "alpha2": 0.3, "every": 2}])
def test_equals_the_algorithm_in_a_plain_loop(tiny, train, by_hand, kind, options):
    def step(model, clean, loss_of, optimizer, index):
        optimizer.zero_grad()
        if index % options.get("every", 3) == 0:
            (options.get("alpha1", 1.0) * loss_of(clean)).backward()
            optimizer.step()
            optimizer.zero_grad()
            (-options.get("alpha2", 0.2) * loss_of(clean)).backward()
        else:
            loss_of(clean).backward()
        optimizer.step()

    mine = train(kind, tiny, MirrorGradient(**options))
    assert near(mine, by_hand(kind, tiny, step))
    assert not near(mine, train(kind, tiny, None), atol=1e-3)


def test_without_a_step_up_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, MirrorGradient(alpha2=0.0)), train(GRCN, tiny, None))


def test_it_resumes_to_the_same_bits(tiny, train, resumed):
    assert same(resumed(GRCN, tiny, MirrorGradient), train(GRCN, tiny, MirrorGradient()))


def test_the_step_up_takes_a_kept_item_graph_as_it_is(shop, train):
    """LATTICE learns its item graph at the first step of an epoch only."""
    mine = train(LATTICE, shop, MirrorGradient(every=1), 1)
    assert not near(mine, train(LATTICE, shop, None, 1), atol=1e-3)


def test_bad_arguments():
    for bad in ({"alpha1": 0.0}, {"alpha2": -0.1}, {"alpha2": float("inf")}, {"every": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            MirrorGradient(**bad)
