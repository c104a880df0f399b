"""The MMRec layout: one tab-separated interaction file and one feature matrix per modality."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import INTERACTS, SPLITS, build, features
from mmgraph_robust.data.validate import check_features, validate
from mmgraph_robust.errors import DataError
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import atomic_write

_COLUMNS = ("userID", "itemID", "x_label")
_NAMES = {"image": "visual", "text": "textual", "audio": "acoustic"}
_SUFFIX = "_feat.npy"
# An id this many times beyond the number of those that occur is a mistake, not a shop.
_MOST_GAPS = 10


def read_mmrec(
    folder: str | Path,
    features: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    sep: str = "\t",
    num_users: int | None = None,
    num_items: int | None = None,
) -> HeteroData:
    """Reads a data set in MMRec's layout.

    The folder holds ``<name>.inter``, tab-separated with the columns ``userID``, ``itemID`` and ``x_label`` (0, 1, 2
    for training, validation, test; other columns are ignored), and ``.npy`` matrices whose row is the item id.
    Features of any floating type become float32; pickled arrays are refused.

    Args:
        folder: The folder.
        features: Feature file per modality, e.g. ``{"visual": "image_feat.npy"}``. Default: all ``*_feat.npy`` files,
            with ``image``, ``text`` and ``audio`` read as ``visual``, ``textual`` and ``acoustic``.
        name: Name of the data set and of the interaction file (default: the folder's; where no
            file has this name, a sole ``*.inter`` file is read).
        sep: What separates the columns of the interaction file.
        num_users: Number of users (default: the largest id + 1).
        num_items: Number of items (default: the largest id + 1, which the feature matrices must agree with).

    Raises:
        DataError: If a file is missing, damaged or does not fit; names the file, the line and what was expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (looked for {folder.resolve()})")
    path = folder / f"{folder.resolve().name if name is None else name}.inter"
    sole = sorted(folder.glob("*.inter"))
    if name is None and not path.is_file() and len(sole) == 1:
        path = sole[0]
    name = folder.resolve().name if name is None else name
    if len(sep) != 1:
        raise DataError(f"'sep' expects one character (got {sep!r}): replace what separates the columns first")
    user, item, label = _read_interactions(path, sep)
    for what, ids, given in (("user", user, num_users), ("item", item, num_items)):
        distinct = torch.unique(ids).numel()
        if given is None and int(ids.max()) >= _MOST_GAPS * (distinct + 100):
            raise DataError(
                f"{path} names {distinct} {what}s, but ids up to {int(ids.max())}: number them from 0 without gaps, or "
                f"pass 'num_{what}s' if there are that many"
            )
    if features is None:
        files = sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
        stems = [file.removesuffix(_SUFFIX) for file in files]
        features = {_NAMES.get(stem, stem): file for stem, file in zip(stems, files, strict=True)}
    items = int(item.max()) + 1 if num_items is None else num_items
    matrices: Features = {}
    for modality, file in features.items():
        matrices[modality] = _read_features(folder / file)
        rows = matrices[modality].size(0) if matrices[modality].dim() == 2 else items
        if num_items is None and rows != items:
            raise DataError(
                f"{folder / file} has {rows} rows, but the largest item id of {path} is {items - 1} and asks "
                f"for {items}: give one row per item, or pass 'num_items' if the last items have no interaction"
            )
        check_features(modality, matrices[modality], items, str(folder / file))
    data = build(torch.stack([user, item]), label, matrices, num_users=num_users, num_items=num_items, name=name)
    return validate(data)


def write_mmrec(data: HeteroData, folder: str | Path) -> None:
    """Writes a data set in the layout that :func:`read_mmrec` reads, named after the folder.

    The modalities ``visual``, ``textual`` and ``acoustic`` go to ``image_feat.npy``, ``text_feat.npy`` and
    ``audio_feat.npy``. The layout has no place for users and items after the last one with an interaction: give
    `num_users` and `num_items` when reading such a data set.

    Args:
        data: The data set, valid.
        folder: The folder, made if need be; files of these names are replaced.

    Raises:
        DataError: If a modality would come back under another name or not at all.
    """
    folder = Path(folder)
    store = data[INTERACTS]
    stems = {modality: stem for stem, modality in _NAMES.items()}
    for modality in features(data):
        if modality in _NAMES or not re.fullmatch(r"[\w .-]+", modality) or modality.startswith("."):
            raise DataError(
                f"modality '{modality}' would not be read again under its name: rename it ('visual', 'textual' and "
                "'acoustic' are written as 'image', 'text' and 'audio'; letters, digits, spaces, '-', '_' and '.')"
            )
    label = torch.stack([store[f"{split}_mask"] for split in SPLITS]).int().argmax(0)
    table = torch.cat([store.edge_index, label[None]]).t().cpu().numpy()
    with atomic_write(folder / f"{folder.resolve().name}.inter", "w") as file:
        np.savetxt(file, table, fmt="%d", delimiter="\t", header="\t".join(_COLUMNS), comments="")
    for modality, x in features(data).items():
        with atomic_write(folder / f"{stems.get(modality, modality)}{_SUFFIX}") as file:
            np.save(file, x.detach().cpu().numpy(), allow_pickle=False)


def _read_interactions(path: Path, sep: str) -> tuple[Tensor, Tensor, Tensor]:
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.inter"))
        raise DataError(f"no such file: {path} (interaction files there: {near}; pass 'name' to choose one)")
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline().rstrip("\r\n").split(sep)
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise DataError(f"{path}, line 1: expected a header with {list(_COLUMNS)} separated by {sep!r}; "
                        f"it lacks {missing} (got {header}): add it, or pass 'sep'")  # fmt: skip
    columns = [header.index(column) for column in _COLUMNS]
    try:
        with warnings.catch_warnings():
            # NumPy cuts 1.7 down to 1 with a mere DeprecationWarning, and warns of a file that ends after its header.
            warnings.simplefilter("error", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            table: NDArray[np.int64] = np.loadtxt(
                path, np.int64, comments=None, delimiter=sep, skiprows=1, usecols=columns, ndmin=2, encoding="utf-8"
            )
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{path}, {_first_bad_line(path, columns, sep) or error}") from error
    if table.size == 0:
        raise DataError(f"{path} has a header but no interactions")
    if bool((table < 0).any()) or bool((table[:, 2] > 2).any()):
        raise DataError(f"{path}, {_first_bad_line(path, columns, sep)}")
    user, item, label = torch.from_numpy(np.ascontiguousarray(table.T))
    return user, item, label


def _first_bad_line(path: Path, columns: list[int], sep: str) -> str:
    # Read again, slowly, only to say which line is wrong: NumPy counts neither the header nor empty lines.
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            fields = text.rstrip("\r\n").split(sep)
            if number == 1 or fields == [""]:
                continue
            for column, name in zip(columns, _COLUMNS, strict=True):
                value = fields[column] if column < len(fields) else "nothing"
                highest = 2 if name == "x_label" else torch.iinfo(torch.int64).max
                if not re.fullmatch(r"\s*\d+\s*", value, re.ASCII) or int(value) > highest:
                    expected = "0, 1 or 2" if name == "x_label" else "a whole number >= 0"
                    return f"line {number}: '{name}' expects {expected} (got {value!r})"
    return ""


def _read_features(path: Path) -> Tensor:
    if not path.is_file():
        # An empty name is that of the folder itself.
        near = sorted(p.name for p in (path if path.is_dir() else path.parent).glob("*.npy"))
        raise DataError(f"no such feature file: {path} (matrices there: {near})")
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path} is not a readable .npy matrix of numbers ({error}): it is truncated, damaged or pickled; fetch "
            "it again, or save it with numpy.save(path, array, allow_pickle=False)"
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "fiu":
        raise DataError(f"{path} expects a matrix of numbers (got {getattr(matrix, 'dtype', type(matrix).__name__)})")
    return torch.from_numpy(matrix.astype(np.float32))
