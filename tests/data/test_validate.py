from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data import DataWarning, build, validate
from mmgraph_robust.data.schema import INTERACTS, ITEM, USER
from mmgraph_robust.errors import ConfigError, DataError

EDGES = [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
LABELS = [0, 0, 1, 0, 2, 0]


def make(edges=EDGES, labels=LABELS):
    x = torch.arange(12.0).reshape(3, 4) + 1
    return build(torch.tensor(edges), torch.tensor(labels), {"visual": x}, num_users=2, num_items=3)


def refuse(data, match, **kwargs):
    with pytest.raises(DataError, match=match):
        validate(data, **kwargs)


def test_accepts_a_sound_data_set_without_a_warning():
    data = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert validate(data, splits=("train", "val", "test")) is data


def test_missing_nodes_and_edges():
    refuse(HeteroData(), r"lacks data\['user'\].num_nodes")
    data = make()
    del data[ITEM].num_nodes
    refuse(data, r"lacks data\['item'\].num_nodes")
    data = HeteroData()
    data[USER].num_nodes = data[ITEM].num_nodes = 2
    refuse(data, "lacks interactions")


def test_edge_index_form():
    data = make()
    data[INTERACTS].edge_index = data[INTERACTS].edge_index.int()
    refuse(data, r"int64 of shape \[2, num_edges\] \(got torch.int32")
    data[INTERACTS].edge_index = torch.zeros(3, 6, dtype=torch.long)
    refuse(data, r"of \[3, 6\]")
    data[INTERACTS].edge_index = EDGES
    refuse(data, "int64 tensor .got list")


@pytest.mark.parametrize(("row", "value", "kind"), [(0, 2, "user"), (1, 3, "item"), (0, -1, "user"), (1, -1, "item")])
def test_id_out_of_range(row, value, kind):
    data = make()
    data[INTERACTS].edge_index[row, 4] = value
    refuse(data, f"{kind} id {value} in interaction 4 is out of range")


def test_mask_form():
    data = make()
    del data[INTERACTS].val_mask
    refuse(data, "lack 'val_mask': split them with 'random_split'")
    data[INTERACTS].val_mask = torch.zeros(5, dtype=torch.bool)
    refuse(data, r"'val_mask' expects booleans of shape \[6\]")
    data[INTERACTS].val_mask = torch.zeros(6, dtype=torch.long)
    refuse(data, "got torch.int64")
    data[INTERACTS].val_mask = [False] * 6
    refuse(data, "tensor of booleans .got list")


def test_masks_overlap_or_leave_out():
    data = make()
    data[INTERACTS].val_mask[1] = True
    refuse(data, r"1 interactions are in more than one split, first at positions \[1\]")
    refuse(make(labels=[0, 0, 1, 7, 2, 0]), r"1 interactions are in no split, first at positions \[3\]")


def test_same_pair_in_two_splits_or_twice_in_one():
    repeated = [[0, 0, 0, 1, 1, 0], [0, 1, 2, 0, 1, 2]]
    refuse(make(repeated, [0, 0, 0, 0, 2, 1]), "user 0 and item 2 at positions 2 and 5 .in both 'train' and 'val'")
    refuse(make(repeated, [0, 0, 1, 0, 2, 1]), "positions 2 and 5 .twice in 'val'")


def test_empty_splits():
    refuse(make(labels=[1, 1, 1, 1, 2, 2]), "the train split is empty", splits=("test",))
    data = make(labels=[0, 0, 1, 0, 1, 0])
    validate(data)
    refuse(data, "the test split is empty", splits=("train", "test"))
    with pytest.raises(ConfigError, match="unknown split 'tset'"):
        validate(data, splits=("tset",))


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.ones(3, 4, dtype=torch.float64), "expects a float32 tensor"),
        ([[1.0]], "got list"),
        (torch.ones(3), r"with dim >= 1 \(got \[3\]\)"),
        (torch.ones(3, 2, 2), r"got \[3, 2, 2\]"),
        (torch.ones(3, 0), r"got \[3, 0\]"),
        (torch.ones(2, 4), "has 2 rows, fewer than the 3 items"),
        (torch.ones(4, 4), "has 4 rows, more than the 3 items"),
    ],
)
def test_feature_form(x, match):
    data = make()
    data[ITEM].x_visual = x
    refuse(data, f"modality 'visual' .*{match}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_row_that_is_not_finite(value):
    data = make()
    data[ITEM].x_visual[2, 1] = value
    refuse(data, r"modality 'visual' has NaN or infinite values in 1 rows, first \[2\]")


def test_warns_with_counts():
    data = make()
    data[ITEM].x_visual[1] = 0
    data[ITEM].x_visual[:, 3] = 0
    with pytest.warns(DataWarning) as caught:
        validate(data)
    assert [str(w.message) for w in caught] == [
        "modality 'visual' is zero in all columns for 1 of 3 items",
        "modality 'visual' is constant in 1 of 4 columns",
    ]
    with pytest.warns(DataWarning, match="1 of 2 users have no training interaction"):
        validate(make(labels=[0, 0, 0, 1, 2, 1]))
    with pytest.warns(DataWarning, match="1 of 3 items have no training interaction"):
        validate(make(labels=[0, 0, 1, 0, 0, 2]))
