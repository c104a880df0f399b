import pytest
import torch

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import batch_mean_squares, batch_norms, batch_squares, bpr_loss, info_nce


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
    rows = [user[0], user[1], item[1], item[1], item[0], item[2]]
    assert torch.allclose(batch_squares(user, item, ids), sum(x.square().sum() for x in rows) / 4)


def test_info_nce_by_hand():
    left, right = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Cosines: 1 and 1 in the first row, 0 and 0 in the second.
    assert float(info_nce(left, right, 0.5)) == pytest.approx(0.693147, abs=1e-5)
    right = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    e = 2.718281828**2
    assert float(info_nce(left, right, 0.5)) == pytest.approx(-torch.tensor(e / (e + 1)).log().item(), abs=1e-5)
    # Small temperatures do not overflow.
    assert float(info_nce(left, right.flip(0), 1e-3)) == pytest.approx(1000.0)


def test_scores_of_other_shapes_are_told():
    # They would be held against each other all with all.
    with pytest.raises(DataError, match=r"'positive' and 'negative' .* \(got \[4\] and \[4, 1\]\)"):
        bpr_loss(torch.randn(4), torch.randn(4, 1))


def test_several_negatives_for_each_positive():
    positive, negative = torch.randn(4, 1), torch.randn(4, 3)
    one_by_one = torch.stack([bpr_loss(positive[:, 0], negative[:, j]) for j in range(3)]).mean()
    assert torch.allclose(bpr_loss(positive, negative), one_by_one)


def test_what_cannot_be_contrasted_is_told():
    x = torch.randn(4, 2)
    for left, right in ((x, x[:1]), (x[:3], x), (x[:0], x[:0])):
        with pytest.raises(DataError, match="'left' and 'right' expect one shape"):
            info_nce(left, right)
    for temperature in (0.0, -0.2, float("nan")):
        with pytest.raises(ConfigError, match="'temperature' expects a number > 0"):
            info_nce(x, x, temperature)
