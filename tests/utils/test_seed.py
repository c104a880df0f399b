import pytest
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import child_generator, hash_json, hash_tensors


def draw(*args):
    return torch.rand(4, generator=child_generator(*args)).tolist()


def test_streams_are_named_and_repeatable():
    assert draw(0, "init") == draw(0, "init")
    streams = [draw(0, "init"), draw(1, "init"), draw(0, "sampling", 0), draw(0, "sampling", 1), draw(0, "defense", 0)]
    assert len({tuple(s) for s in streams}) == len(streams)


def test_hashes_see_values_names_and_shapes():
    x = torch.arange(4.0)
    same = hash_tensors(a=x)
    assert same == hash_tensors(a=x.clone())
    assert (
        len({same, hash_tensors(b=x), hash_tensors(a=x + 1), hash_tensors(a=x.view(2, 2)), hash_tensors(a=x.half())})
        == 5
    )
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 1, "b": 3})


def test_a_negative_seed_is_told():
    with pytest.raises(ConfigError, match=r"'seed' expects a whole number >= 0 \(got -1\)"):
        child_generator(-1)


def test_half_a_seed_is_told():
    with pytest.raises(ConfigError, match=r"'seed' expects a whole number >= 0 \(got 1.9\)"):
        child_generator(1.9)
