from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mmgraph_robust.data import DataWarning, features, modalities, read_mmrec, synthetic, write_mmrec
from mmgraph_robust.data.schema import INTERACTS, ITEM, USER, build
from mmgraph_robust.errors import DataError

ROWS = ["0\t0\t5.0\t100\t0", "0\t1\t3.0\t101\t1", "1\t1\t4.0\t102\t0", "1\t2\t1.0\t103\t2", "0\t2\t2.0\t104\t0"]
HEADER = "userID\titemID\trating\ttimestamp\tx_label"
MATRIX = np.arange(12, dtype=np.float64).reshape(3, 4)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    write(path)
    np.save(path / "image_feat.npy", MATRIX)
    return path


def write(folder, rows=ROWS, header=HEADER, name="shop"):
    (folder / f"{name}.inter").write_text("\n".join([header, *rows]) + "\n")


def refuse(folder, match, **kwargs):
    with pytest.raises(DataError, match=match) as caught:
        read_mmrec(folder, **kwargs)
    return str(caught.value)


def test_reads_by_pattern(folder):
    np.save(folder / "text_feat.npy", MATRIX.astype(np.float16))
    np.save(folder / "audio_feat.npy", MATRIX)
    np.save(folder / "motion_feat.npy", MATRIX)
    data = read_mmrec(folder)
    assert data.name == "shop"
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (2, 3)
    assert data[INTERACTS].edge_index.tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 2, 2]]
    assert data[INTERACTS].train_mask.tolist() == [True, False, True, False, True]
    assert data[INTERACTS].test_mask.tolist() == [False, False, False, True, False]
    assert sorted(modalities(data)) == ["acoustic", "motion", "textual", "visual"]
    for x in features(data).values():
        assert x.dtype == torch.float32
        assert torch.equal(x, torch.from_numpy(MATRIX).float())


def test_reads_named_features_and_refuses_a_missing_one(folder):
    assert modalities(read_mmrec(folder, {"pixels": "image_feat.npy"})) == ["pixels"]
    assert modalities(read_mmrec(folder, {})) == []
    for wrong in ("img.npy", ""):
        assert "image_feat.npy" in refuse(folder, "no such feature file", features={"visual": wrong})


def test_columns_go_by_name_in_any_order(folder):
    expected = read_mmrec(folder)[INTERACTS]
    lines = [row.split("\t") for row in ROWS]
    write(folder, [f"{label},{item},{user}" for user, item, _, _, label in lines], "x_label,itemID,userID")
    found = read_mmrec(folder, sep=",")[INTERACTS]
    assert torch.equal(found.edge_index, expected.edge_index)
    assert torch.equal(found.val_mask, expected.val_mask)


def test_name_of_the_interaction_file(folder):
    (folder / "shop.inter").rename(folder / "other.inter")
    assert read_mmrec(folder).name == "shop"
    write(folder, name="third")
    refuse(folder, r"no such file: .*shop.inter .*'other.inter', 'third.inter'")
    assert read_mmrec(folder, name="third").name == "third"
    refuse(folder, "no such file: .*fourth.inter", name="fourth")


def test_missing_folder_says_where_it_looked(tmp_path):
    assert str(tmp_path / "nowhere") in refuse(tmp_path / "nowhere", "no such folder")


@pytest.mark.parametrize("header", ["userID,itemID,x_label", "0\t0\t1.0\t5\t0", "user\titemID\tx_label", ""])
def test_header(folder, header):
    write(folder, header=header)
    refuse(folder, r"shop.inter, line 1: expected a header with .*lacks \[")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("0\tx\t1\t1\t0", r"'itemID' expects a whole number >= 0 \(got 'x'\)"),
        ("1.5\t0\t1\t1\t0", r"'userID' expects a whole number >= 0 \(got '1.5'\)"),
        ("99999999999999999999\t0\t1\t1\t0", "'userID' expects a whole number"),
        ("-1\t0\t1\t1\t0", r"'userID' expects a whole number >= 0 \(got '-1'\)"),
        ("1\t0\t1\t1\t3", r"'x_label' expects 0, 1 or 2 \(got '3'\)"),
        ("1\t0\t1\t1", r"'x_label' expects 0, 1 or 2 \(got 'nothing'\)"),
        ("#1\t0\t1\t1\t0", r"'userID' expects a whole number >= 0 \(got '#1'\)"),
        ("\xff\t0\t1\t1\t0", "'userID' expects a whole number"),
    ],
)
def test_bad_line_is_named(folder, row, match):
    # The empty line is no interaction, but it counts as a line of the file.
    text = "\n".join([HEADER, ROWS[0], "", row, *ROWS[1:]])
    (folder / "shop.inter").write_bytes(text.encode("latin-1"))
    refuse(folder, f"shop.inter, line 4: {match}")


def test_file_without_interactions(folder):
    write(folder, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse(folder, "has a header but no interactions")


def test_the_same_pair_twice(folder):
    write(folder, [*ROWS, "0\t0\t1\t1\t2"])
    refuse(folder, "user 0 and item 0 at positions 0 and 5 .in both 'train' and 'test'")


def test_empty_train(folder):
    write(folder, [row[:-1] + "1" for row in ROWS])
    refuse(folder, "the train split is empty")


def test_truncated_matrix(folder):
    path = folder / "image_feat.npy"
    path.write_bytes(path.read_bytes()[:-20])
    refuse(folder, "image_feat.npy is not a readable .npy matrix .*fetch it again")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"version https://example.org/spec/v1\n"])
def test_altered_matrix(folder, content):
    (folder / "image_feat.npy").write_bytes(content)
    refuse(folder, "image_feat.npy is not a readable .npy matrix .*fetch it again")


def test_object_matrix_is_never_unpickled(folder):
    np.save(folder / "image_feat.npy", np.array([{"a": 1}, None, 3], dtype=object), allow_pickle=True)
    refuse(folder, "image_feat.npy .*pickled")


def test_matrix_that_holds_no_numbers(folder):
    np.save(folder / "image_feat.npy", np.full((3, 2), "a"))
    refuse(folder, "image_feat.npy expects a matrix of numbers")


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2), (3, 0)])
def test_matrix_of_wrong_rank(folder, shape):
    np.save(folder / "image_feat.npy", np.ones(shape))
    refuse(folder, r"image_feat.npy.* expects shape \[3, dim\]")


@pytest.mark.parametrize("rows", [2, 4])
def test_short_and_long_matrix(folder, rows):
    np.save(folder / "image_feat.npy", np.random.default_rng(0).random((rows, 2)))
    message = refuse(folder, f"image_feat.npy has {rows} rows, but the largest item id .* is 2 and asks for 3")
    assert "num_items" in message


def test_more_items_than_interactions_only_when_asked(folder):
    np.save(folder / "image_feat.npy", np.random.default_rng(0).random((4, 2)))
    data = read_mmrec(folder, num_items=4, num_users=6)
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (6, 4)
    refuse(folder, "image_feat.npy.* has 4 rows, fewer than the 5 items", num_items=5)
    refuse(folder, "user id 1 in interaction 2 is out of range", num_items=4, num_users=1)


def test_id_beyond_the_items(folder):
    write(folder, [*ROWS, "1\t9\t1\t1\t0"])
    refuse(folder, "has 3 rows, but the largest item id .* is 9 and asks for 10")
    refuse(folder, "item id 9 in interaction 5 is out of range", num_items=3)


def test_nan_row(folder):
    matrix = MATRIX.copy()
    matrix[1, 2] = np.nan
    np.save(folder / "image_feat.npy", matrix)
    refuse(folder, r"modality 'visual' .*image_feat.npy.* NaN or infinite values in 1 rows, first \[1\]")


def test_each_warning_comes_once(folder):
    np.save(folder / "image_feat.npy", np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]]))
    with pytest.warns() as caught:
        read_mmrec(folder)
    assert len([w for w in caught if "zero in all columns" in str(w.message)]) == 1


def test_round_trip(tmp_path):
    data = synthetic(num_users=40, num_items=30, modalities={"visual": 5, "motion": 3}, seed=1)
    write_mmrec(data, tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["copy.inter", "image_feat.npy", "motion_feat.npy"]
    again = read_mmrec(tmp_path / "copy", num_users=40, num_items=30)
    assert again.name == "copy"
    for key in ("edge_index", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(again[INTERACTS][key], data[INTERACTS][key])
    assert features(again).keys() == features(data).keys()
    for name, x in features(data).items():
        assert torch.equal(features(again)[name], x)


@pytest.mark.parametrize("name", ["image", "a/b", "../up", ".hidden"])
def test_modalities_that_would_not_come_back_are_not_written(tmp_path, name):
    x = torch.randn(1, 2)
    data = build(torch.tensor([[0], [0]]), torch.tensor([0]), {"visual": x, name: x})
    with pytest.raises(DataError, match=f"modality '{name}' would not be read again under its name"):
        write_mmrec(data, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_id_far_beyond_all_others_is_a_mistake(tmp_path):
    (tmp_path / "shop.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n1000000000000\t1\t0\n")
    with pytest.raises(DataError, match="names 2 users, but ids up to 1000000000000: number them .* 'num_users'"):
        read_mmrec(tmp_path)
    (tmp_path / "shop.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n900\t1\t0\n")
    with pytest.warns(DataWarning):
        assert read_mmrec(tmp_path)["user"].num_nodes == 901
    with pytest.raises(DataError, match="'sep' expects one character"):
        read_mmrec(tmp_path, sep="::")


@pytest.mark.parametrize(
    ("name", "sizes", "splits", "dims"),
    [
        ("tiktok", (9308, 6710), (59541, 3051, 6130), {"visual": 128, "acoustic": 128}),
        ("hm", (8904, 3173), (46144, 9243, 9243), {"visual": 512, "textual": 256}),
        ("amazon-sports", (35598, 18357), (218409, 40029, 37899), {}),
    ],
)
def test_real_data(real_folder, name, sizes, splits, dims):
    data = read_mmrec(real_folder(name))
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == sizes
    assert tuple(int(data[INTERACTS][f"{split}_mask"].sum()) for split in ("train", "val", "test")) == splits
    assert {modality: x.size(1) for modality, x in features(data).items()} == dims
