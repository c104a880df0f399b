import pytest
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.metrics import exposure


def test_by_hand():
    lists = torch.tensor([[3, 1, 2], [0, -1, -1], [5, 6, 7]])
    assert exposure(lists, torch.tensor([1, 2, 9])).tolist() == pytest.approx([2 / 3, 0, 0])
    # Padding is no item.
    assert exposure(lists, torch.tensor([0])).tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="at least one target"):
        exposure(lists, torch.tensor([], dtype=torch.long))
