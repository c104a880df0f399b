import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.sparse import Adjacency, SoftGraph, cosine_graph, knn_search, soft_topk


def soft(x, k, more):
    neighbour = knn_search(x.detach(), k + more)[1]
    selection = torch.zeros(neighbour.shape).to(x)
    selection[:, :k] = 1
    return SoftGraph.from_candidates(neighbour, selection, x)


def test_a_hard_choice_is_the_nearest_neighbour_graph():
    x = torch.randn(20, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    graph, hard = soft(x, 4, 3), cosine_graph(x, 4)
    assert graph.num_edges == 20 * 7
    for how in ("gcn", "row"):
        assert torch.allclose(graph.normalize(how).to_dense(), hard.normalize(how).to_dense())
    plain = hard.with_value(None)
    assert torch.allclose(graph.unweighted().normalize("gcn").to_dense(), plain.normalize("gcn").to_dense().double())
    assert hard.unweighted().value is None
    assert graph.to("cpu") is graph
    assert isinstance(graph.to("meta"), SoftGraph)


def test_edges_that_are_not_there_have_a_gradient():
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    neighbour = knn_search(x, 5)[1]
    selection = torch.tensor([1.0, 1, 1, 0, 0]).repeat(10, 1).requires_grad_()
    worth = torch.randn(10, 10, generator=torch.Generator().manual_seed(1))
    graph = SoftGraph.from_candidates(neighbour, selection, x)
    (graph.unweighted().to_dense() * worth).sum().backward()
    assert torch.allclose(selection.grad, worth.gather(1, neighbour))
    assert isinstance(graph, Adjacency)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([1.0, 0.1, 0.01]))
def test_memberships_sum_to_k_and_harden(seed, k, temperature):
    score = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    share = soft_topk(score, k, temperature)
    assert torch.allclose(share.sum(1), torch.full((6,), float(k), dtype=torch.double), atol=1e-6)
    assert bool(((share >= 0) & (share <= 1)).all())
    order = score.argsort(1)
    assert bool((share.gather(1, order).diff(dim=1) >= 0).all())
    hard = torch.zeros_like(score).scatter(1, score.topk(k, dim=1).indices, 1.0)
    assert torch.allclose(soft_topk(score, k, 1e-9).round(), hard)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_first_and_second_derivatives(shape):
    score = torch.randn(3, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0), requires_grad=True)
    temperature = torch.full(shape, 0.7, dtype=torch.double, requires_grad=True)
    assert gradcheck(lambda s, t: soft_topk(s, 2, t), (score, temperature))
    assert gradgradcheck(lambda s, t: soft_topk(s, 2, t), (score, temperature))
    assert gradgradcheck(lambda s: soft_topk(s, 2, 0.7), (score,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_is_a_temperature_for_every_row(dtype):
    score = torch.randn(5, 9, dtype=dtype, generator=torch.Generator().manual_seed(0), requires_grad=True)
    got, expected = (soft_topk(score, 3, t) for t in (0.25, torch.full((5, 1), 0.25, dtype=dtype)))
    assert torch.equal(got, expected)
    probe = torch.arange(9, dtype=dtype)
    first, second = (torch.autograd.grad((share * probe).sum(), score)[0] for share in (got, expected))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("k", "temperature", "named"),
    [(7, 0.5, "from 0 to 6"), (-1, 0.5, "'k'"), (1.5, 0.5, "'k'"), (2, 0.0, "'temperature'"), (2, -1.0, "> 0")],
)
def test_bad_arguments(k, temperature, named):
    with pytest.raises(ConfigError, match=named):
        soft_topk(torch.randn(3, 6), k, temperature)


def test_scores_that_are_no_matrix():
    with pytest.raises(DataError, match="'score'"):
        soft_topk(torch.randn(6), 2, 0.5)


def test_none_and_all():
    assert float(soft_topk(torch.randn(3, 1), 0, 0.1).max()) < 1e-6
    assert torch.equal(soft_topk(torch.randn(3, 4), 4, 0.1), torch.ones(3, 4))


def test_the_boundary_follows_by_the_implicit_function_theorem():
    score = torch.randn(3, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert gradcheck(lambda s: soft_topk(s, 2, torch.full((3, 1), 0.7, dtype=torch.double)), (score,))
    # Lifting all scores alike changes nothing.
    share = soft_topk(score, 2, 0.5)
    (grad,) = torch.autograd.grad((share * torch.arange(6)).sum(), score)
    assert grad.sum(1).abs().max() < 1e-9
    assert float(grad.abs().max()) > 0.01
