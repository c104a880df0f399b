import torch

from mmgraph_robust.utils import bad_gradient


def test_the_first_gradient_that_is_not_finite_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    assert bad_gradient(model) is None
    model(torch.ones(1, 2)).sum().backward()
    assert bad_gradient(model) is None
    model[1].weight.grad[0, 1] = float("inf")
    assert bad_gradient(model) == "the gradient of '1.weight' is not finite"
    model[1].weight.grad.fill_(3e38)
    assert bad_gradient(model) == "a gradient's norm overflowed"


def test_sparse_gradients_are_looked_at():
    table = torch.nn.Embedding(5, 3, sparse=True)
    table(torch.tensor([1, 1, 4])).sum().backward()
    assert table.weight.grad.is_sparse
    assert bad_gradient(table) is None
    table.zero_grad()
    (table(torch.tensor([1])) * float("nan")).sum().backward()
    assert bad_gradient(table) == "the gradient of 'weight' is not finite"
