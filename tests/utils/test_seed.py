import numpy as np
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


def test_views_have_the_hash_of_what_they_show():
    x = torch.randn(3, dtype=torch.cfloat)
    assert hash_tensors(a=x.conj()) == hash_tensors(a=x.conj().resolve_conj()) != hash_tensors(a=x)
    y = torch.randn(3)
    assert hash_tensors(a=torch._neg_view(y)) == hash_tensors(a=-y)


def test_a_negative_seed_is_told():
    with pytest.raises(ConfigError, match=r"'seed' expects a whole number >= 0 \(got -1\)"):
        child_generator(-1)


@pytest.mark.parametrize("seed", [1.9, float("nan"), float("inf"), "1", None])
def test_what_is_no_whole_number_is_told(seed):
    with pytest.raises(ConfigError, match=rf"'seed' expects a whole number >= 0 \(got {seed!r}\)"):
        child_generator(seed)


@pytest.mark.parametrize("name", [-3, 1.5, None])
def test_a_name_that_is_none_is_told(name):
    with pytest.raises(ConfigError, match=rf"'names' expects words and whole numbers >= 0 \(got {name}\)"):
        child_generator(0, "sampling", name)


def test_the_numbers_of_a_seed_stay_what_they_are():
    assert torch.randint(1000, (3,), generator=child_generator(7, "init", 2)).tolist() == [868, 603, 840]
    assert draw(np.int64(7), "init", np.int32(2)) == draw(7, "init", 2)
    # Training graphs have seeds of up to 62 bits.
    assert draw(1 << 61, "dropout") != draw(0, "dropout")
