import pytest
import torch

from mmgraph_robust.errors import CheckpointError
from mmgraph_robust.utils import pack, unpack


def test_numbers_come_back():
    values = torch.tensor([0.0, 0.5, 1 / 3, 1.0])
    assert torch.equal(torch.from_numpy(unpack(pack(values))), values)
    assert unpack(pack(values[:0])).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64])
def test_numbers_of_other_types_are_packed_as_float32(dtype):
    values = torch.tensor([0.0, 1.0, 3.0]).to(dtype)
    assert unpack(pack(values)).tolist() == [0.0, 1.0, 3.0]


def test_few_values_take_little_room():
    values = torch.randint(0, 4, (10_000,)) / 3
    assert len(pack(values)) < 8_000


@pytest.mark.parametrize("text", ["not base64!", "aGVsbG8=", "", None])
def test_damage_is_told(text):
    with pytest.raises(CheckpointError, match="damaged"):
        unpack(text)
