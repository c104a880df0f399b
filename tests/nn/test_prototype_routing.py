import pytest
import torch
import torch.nn.functional as F
from torch_geometric.testing import assert_module

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn import PrototypeRouting


def test_moves_users_towards_their_items():
    item = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    user = F.normalize(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), dim=1)
    edge_index = torch.tensor([[0], [0]])  # item 0 to user 0; user 1 has none
    out = PrototypeRouting(3)((item, user), edge_index)
    assert float(out[0] @ item[0]) > float(user[0] @ item[0])
    assert torch.allclose(out[1], user[1])
    assert torch.allclose(out.norm(dim=1), torch.ones(2))


def test_equals_the_formula():
    item, user = torch.randn(4, 3), torch.randn(3, 3)
    edge_index = torch.tensor([[0, 1, 3, 2, 1], [0, 0, 0, 1, 1]])
    expected = user.clone()
    for _ in range(2):
        rows = []
        for u, p in enumerate(expected):
            near = item[edge_index[0, edge_index[1] == u]]
            rows.append(
                F.normalize(p + torch.softmax(near @ p, 0) @ near, dim=0) if len(near) else F.normalize(p, dim=0)
            )
        expected = torch.stack(rows)
    out = assert_module(PrototypeRouting(2), (item, user), edge_index, expected_size=(3, 3), atol=1e-6)
    assert torch.allclose(out, expected, atol=1e-6)
    assert torch.equal(PrototypeRouting(0)((item, user), edge_index), user)


def test_bad_input_is_named():
    assert repr(PrototypeRouting(3)) == "PrototypeRouting(num_routings=3)"
    with pytest.raises(ConfigError, match="num_routings >= 0"):
        PrototypeRouting(-1)
    with pytest.raises(ConfigError, match=r"num_routings to be a whole number \(got 1.5\)"):
        PrototypeRouting(1.5)
    edge_index = torch.tensor([[0], [0]])
    for item, user, message in (
        (torch.ones(2, 3, dtype=torch.long), torch.randn(2, 3), r"'x\[0\]' expects floating point"),
        (torch.randn(2, 3), torch.randn(2, 4), r"'x\[1\]' expects shape \[num_users, 3\]"),
        (torch.randn(2, 3), torch.randn(2, 3, device="meta"), r"'x\[1\]' is on meta"),
    ):
        with pytest.raises(DataError, match=message):
            PrototypeRouting()((item, user), edge_index)
