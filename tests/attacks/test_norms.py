import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph_robust.attacks import norms

CASES = st.tuples(st.integers(0, 200), st.sampled_from(norms.NORMS), st.booleans(), st.floats(0.0, 4.0))


def draw(seed, rows=5, dim=6):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_the_projection_is_the_closest_point(case):
    seed, norm, whole, radius = case
    delta = 2 * draw(seed)
    limit = torch.full((1 if whole else 5, 1), radius, dtype=torch.double)
    found = norms.project(delta, limit, norm, whole)
    assert bool((norms.size(found, norm, whole) <= limit + 1e-9).all())
    assert torch.allclose(norms.project(found, limit, norm, whole), found, atol=1e-9)
    # No point of the ball is closer: <delta - found, y - found> <= 0 for every y inside.
    flat = (lambda x: x.reshape(1, -1)) if whole else (lambda x: x)
    for other in range(3):
        y = norms.project(3 * draw(1000 + other), limit, norm, whole)
        assert bool(((flat(delta - found)) * flat(y - found)).sum(1).max() <= 1e-7)


def test_l1_by_hand():
    delta = torch.tensor([[3.0, -1.0, 0.5], [0.2, 0.1, 0.0]])
    expected = torch.tensor([[2.0, 0.0, 0.0], [0.2, 0.1, 0.0]])
    assert torch.allclose(norms.project(delta, torch.tensor([[2.0], [2.0]]), "l1", False), expected)
    assert torch.allclose(
        norms.project(delta, torch.tensor([[3.0], [0.0]]), "l1", False), torch.tensor([[2.5, -0.5, 0.0], [0.0] * 3])
    )


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_no_step_of_norm_one_rises_faster(case):
    seed, norm, whole, _ = case
    gradient = draw(seed)
    step = norms.steepest(gradient, norm, whole)
    assert bool((norms.size(step, norm, whole) <= 1 + 1e-9).all())
    for other in range(3):
        rival = norms.project(5 * draw(2000 + other), torch.ones(1 if whole else 5, 1, dtype=torch.double), norm, whole)
        assert float((gradient * step).sum()) >= float((gradient * rival).sum()) - 1e-9


def test_tiny_gradients_still_point_somewhere_and_zero_ones_do_not():
    tiny = 1e-30 * draw(0).float()
    assert torch.allclose(norms.steepest(tiny, "l2", False).norm(dim=1), torch.ones(5))
    for norm in norms.NORMS:
        assert not norms.steepest(torch.zeros(2, 3), norm, False).any()
    shared = norms.steepest(torch.tensor([[3.0, -2.0], [1.0, 0.0]]), "l1", True, entries=2)
    assert torch.equal(shared, torch.tensor([[0.5, -0.5], [0.0, 0.0]]))


@pytest.mark.parametrize("norm", norms.NORMS)
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_stored_is_inside_to_the_last_bit(norm, whole):
    x = 1e3 * draw(1, 50, 40).float()
    for budget in (1e-7, 1e-4, 1.0):
        radius = budget * norms.sizes({"a": x}, norm, whole)["a"].float()
        full = norms.steepest(draw(2, 50, 40).float(), norm, whole) * radius
        stored = norms.fit_rounded(x, full, radius, norm, whole)
        reached = norms.size(stored.double() - x.double(), norm, whole)
        assert bool((reached <= radius.double()).all())
        if budget > 1e-5:
            assert float(reached.max()) > 0.9 * float(radius.max())


def test_sizes_by_hand():
    x = {"a": torch.tensor([[3.0, -4.0], [0.0, 0.0]])}
    assert norms.sizes(x, "l1", False)["a"].flatten().tolist() == [7.0, 0.0]
    assert float(norms.sizes(x, "l2", True)["a"]) == 5.0
    assert float(norms.sizes(x, "linf", False)["a"][0]) == pytest.approx(5 / 2**0.5)
