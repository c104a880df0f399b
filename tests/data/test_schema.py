from __future__ import annotations

import pytest
import torch

from mmgraph_robust.data import build, features, interactions, modalities, validate, with_features
from mmgraph_robust.data.schema import INTERACTS, ITEM, USER
from mmgraph_robust.errors import ConfigError, DataError


def make():
    edge_index = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 2]], dtype=torch.int32)
    x = {"visual": torch.randn(3, 4, dtype=torch.float64), "acoustic": torch.randn(3, 2)}
    return build(edge_index, torch.tensor([0, 1, 0, 2]), x, name="small")


def test_build_follows_the_exchange_format():
    data = make()
    assert (data[USER].num_nodes, data[ITEM].num_nodes, data.name) == (2, 3, "small")
    assert data[INTERACTS].edge_index.dtype == torch.int64
    assert data[INTERACTS].val_mask.tolist() == [False, True, False, False]
    assert data[ITEM].x_visual.dtype == torch.float32
    assert validate(data) is data


def test_build_takes_sizes_beyond_the_largest_id():
    data = build(torch.tensor([[0], [0]]), torch.tensor([0]), {}, num_users=5, num_items=7)
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (5, 7)


def test_modalities_keep_the_stored_order():
    assert modalities(make()) == ["visual", "acoustic"]
    assert list(features(make(), ["acoustic", "visual"])) == ["acoustic", "visual"]
    assert modalities(build(torch.tensor([[0], [0]]), torch.tensor([0]), {})) == []


def test_unknown_modality_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"unknown modality 'visul'; did you mean 'visual'\?"):
        features(make(), ["visul"])


def test_with_features_leaves_the_original_alone():
    data = make()
    before = data[ITEM].x_visual.clone()
    changed = with_features(data, {"visual": before + 1})
    assert torch.equal(data[ITEM].x_visual, before)
    assert torch.equal(changed[ITEM].x_visual, before + 1)
    assert changed[ITEM].x_acoustic is data[ITEM].x_acoustic


def test_with_features_refuses_other_names_and_shapes():
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        with_features(make(), {"visua": torch.zeros(3, 4)})
    with pytest.raises(DataError, match=r"expects shape \[3, 4\] \(got \[3, 5\]\)"):
        with_features(make(), {"visual": torch.zeros(3, 5)})


def test_interactions_of_a_split():
    assert interactions(make(), "train").tolist() == [[0, 1], [0, 1]]
    assert interactions(make(), "test").tolist() == [[1], [2]]
    with pytest.raises(ConfigError, match="unknown split 'tests'; did you mean 'test'"):
        interactions(make(), "tests")


def test_ids_are_whole_numbers_and_splits_are_there():
    with pytest.raises(DataError, match=r"'edge_index' expects whole numbers \(got torch.float32\)"):
        build(torch.tensor([[0.9, 1.7], [0.2, 1.9]]), torch.zeros(2), {})
    data = build(torch.tensor([[0], [0]]), torch.zeros(1), {})
    del data[INTERACTS].train_mask
    with pytest.raises(DataError, match="lack 'train_mask': split them with 'random_split'"):
        interactions(data, "train")
