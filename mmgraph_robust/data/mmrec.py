"""The MMRec layout: one tab-separated interaction file and one feature matrix per modality."""

from __future__ import annotations

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


def read_mmrec(
    folder: str | Path,
    features: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    num_users: int | None = None,
    num_items: int | None = None,
) -> HeteroData:
    """Reads a data set in MMRec's layout.

    The folder holds ``<name>.inter``, tab-separated with the columns ``userID``, ``itemID`` and ``x_label`` (0, 1, 2 for
    training, validation, test; others are ignored), and ``.npy`` matrices whose row is the item id. Features of
    any floating type become float32; pickled arrays are refused.

    Args:
        folder: The folder.
        features: Feature file per modality, e.g. ``{"visual": "image_feat.npy"}``. Default: all ``*_feat.npy`` files, with
            ``image``, ``text`` and ``audio`` read as ``visual``, ``textual`` and ``acoustic``.
        name: Name of the data set and of the interaction file (default: the folder's).
        num_users: Number of users (default: the largest id + 1).
        num_items: Number of items (default: the largest id + 1).

    Raises:
        DataError: If a file is missing, damaged or does not fit; names the file, the line and what was expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (looked for {folder.resolve()})")
    name = folder.resolve().name if name is None else name
    user, item, label = _read_interactions(folder / f"{name}.inter")
    if features is None:
        files = sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
        stems = [file.removesuffix(_SUFFIX) for file in files]
        features = {_NAMES.get(stem, stem): file for stem, file in zip(stems, files, strict=True)}
    items = int(item.max()) + 1 if num_items is None else num_items
    matrices: Features = {}
    for modality, file in features.items():
        matrices[modality] = _read_features(folder / file)
        check_features(modality, matrices[modality], items, str(folder / file))
    data = build(torch.stack([user, item]), label, matrices, num_users=num_users, num_items=num_items, name=name)
    return validate(data)


def write_mmrec(data: HeteroData, folder: str | Path) -> None:
    """Writes a data set in the layout that :func:`read_mmrec` reads, named after the folder.

    Args:
        data: The data set.
        folder: The folder, made if need be; files of these names are replaced.
    """
    folder = Path(folder)
    store = data[INTERACTS]
    label = torch.stack([store[f"{split}_mask"] for split in SPLITS]).int().argmax(0)
    table = torch.cat([store.edge_index, label[None]]).t().numpy()
    with atomic_write(folder / f"{folder.resolve().name}.inter", "w") as file:
        np.savetxt(file, table, fmt="%d", delimiter="\t", header="\t".join(_COLUMNS), comments="")
    stems = {modality: stem for stem, modality in _NAMES.items()}
    for modality, x in features(data).items():
        with atomic_write(folder / f"{stems.get(modality, modality)}{_SUFFIX}") as file:
            np.save(file, x.numpy(), allow_pickle=False)


def _read_interactions(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.inter"))
        raise DataError(f"no such file: {path} (interaction files there: {near}; pass 'name' to choose one)")
    with open(path, encoding="utf-8") as file:
        header = file.readline().rstrip("\r\n").split("\t")
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise DataError(f"{path}, line 1: the tab-separated header lacks {missing} (got {header})")
    columns = [header.index(column) for column in _COLUMNS]
    try:
        table: NDArray[np.int64] = np.loadtxt(
            path, dtype=np.int64, delimiter="\t", skiprows=1, usecols=columns, ndmin=2, encoding="utf-8"
        )
    except ValueError as error:
        line, reason = _first_bad_line(path, columns)
        raise DataError(f"{path}, line {line}: {reason or error}") from error
    if table.size == 0:
        raise DataError(f"{path} has a header but no interactions")
    for column, values in zip(_COLUMNS, table.T, strict=True):
        wrong = np.flatnonzero((values < 0) | ((values > 2) if column == "x_label" else False))
        if wrong.size:
            expected = "0, 1 or 2" if column == "x_label" else "an id >= 0"
            raise DataError(f"{path}, line {wrong[0] + 2}: '{column}' expects {expected} (got {values[wrong[0]]})")
    user, item, label = torch.from_numpy(np.ascontiguousarray(table.T))
    return user, item, label


def _first_bad_line(path: Path, columns: list[int]) -> tuple[int, str]:
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            fields = text.rstrip("\r\n").split("\t")
            if number == 1 or fields == [""]:
                continue
            for column, name in zip(columns, _COLUMNS, strict=True):
                value = fields[column] if column < len(fields) else "nothing"
                if not value.strip().lstrip("-").isdigit():
                    return number, f"'{name}' expects a whole number (got {value!r})"
    return 1, ""


def _read_features(path: Path) -> Tensor:
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.npy"))
        raise DataError(f"no such feature file: {path} (matrices there: {near})")
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path} is not a readable .npy matrix ({error}): it is truncated, damaged or pickled; fetch it again, "
            "or save it with numpy.save(path, array, allow_pickle=False)"
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "fiu":
        raise DataError(f"{path} expects a matrix of numbers (got {getattr(matrix, 'dtype', type(matrix).__name__)})")
    return torch.from_numpy(matrix.astype(np.float32))
