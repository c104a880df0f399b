import pytest
import torch

from mmgraph_robust.nn import batch_mean_squares, batch_norms, bpr_loss


def test_bpr_loss_does_not_overflow():
    assert float(bpr_loss(torch.tensor([0.0]), torch.tensor([0.0]))) == pytest.approx(0.693147, abs=1e-5)
    assert float(bpr_loss(torch.tensor([-1e4]), torch.tensor([1e4]))) == pytest.approx(2e4)


def test_penalties_by_hand():
    ids = torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0, 2])
    user, item = torch.randn(2, 3), torch.randn(3, 3)
    norms = [float(x.square().sum()) ** 0.5 for x in (user, item[[1, 1]], item[[0, 2]])]
    assert float(batch_norms(user, item, ids)) == pytest.approx(sum(norms) / 2, rel=1e-5)
    pairs = [(0, 1), (1, 1), (0, 0), (1, 2)]
    expected = sum((user[u].square() + item[i].square()).mean() for u, i in pairs) / 4
    assert torch.allclose(batch_mean_squares(torch.cat([user, item]), 2, ids), expected)
