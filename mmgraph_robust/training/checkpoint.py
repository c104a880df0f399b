"""Training state and trained models on disk: written whole or not at all, damage noticed, no code in them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust import defenses, models
from mmgraph_robust.data.schema import interactions
from mmgraph_robust.defenses import WrappedModel
from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import atomic_write, find_class, hash_json, hash_tensors

_MAGIC = b"mmgraph_robust checkpoint 1 "


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and strings, nested in dicts and lists, with a checksum.

    Raises:
        CheckpointError: If there is something else in it, which could not be read again.
    """
    _check_plain(state, "the state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    with atomic_write(path) as file:
        file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
        file.write(payload)


def _check_plain(value: Any, name: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_plain(key, f"a key of {name}")
            _check_plain(part, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            _check_plain(part, f"{name}[{index}]")
    # Not isinstance: numpy.float64 is a float, and is refused when it is read.
    elif value is not None and type(value) not in (bool, int, float, str) and not isinstance(value, Tensor):
        raise CheckpointError(
            f"a checkpoint holds tensors, numbers and strings (got {name}, a {type(value).__name__}): it could not be "
            "read again"
        )


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads what :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: If the file is missing, foreign, truncated or altered.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    head, _, payload = content.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise CheckpointError(f"{path} is not a checkpoint of this library")
    if hashlib.sha256(payload).hexdigest().encode() != head[len(_MAGIC) :]:
        raise CheckpointError(f"{path} is damaged (its checksum differs): delete it and train again")
    try:
        # Wherever it was written: whoever goes on may have no such device.
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    # The bytes are those that were written, so whatever torch refuses them for, they are none of ours.
    except Exception as error:
        raise CheckpointError(f"{path} was written by something else, and cannot be read: {error}") from error
    return state


def save_model(model: Recommender, path: str | Path, data: HeteroData | None = None) -> None:
    """Writes a trained model: its weights as safetensors, its class and arguments beside them.

    Args:
        model: A model of this library, or of a package's registered class (:func:`~mmgraph_robust.utils.find_class`).
        path: The file, by custom ``*.safetensors``.
        data: What it was trained on; the hash of its training interactions is kept, see :func:`trained_on`.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        "class": type(model).__name__,
        "config": json.dumps(describe_model(model)),
        "trained_on": "" if data is None else _training_hash(data),
    }
    metadata["sha256"] = _checksum(weights, metadata)
    with atomic_write(path) as file:
        file.write(save(weights, metadata))


def load_model(path: str | Path) -> Recommender:
    """Builds the model that :func:`save_model` wrote, on the CPU.

    Raises:
        CheckpointError: If the file is missing, foreign or damaged.
    """
    weights, metadata = _read(path)
    try:
        model = _build(metadata["class"], json.loads(metadata["config"]))
        model.load_state_dict(weights)
    # A class of another version takes other arguments, or has other weights.
    except (ConfigError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} holds a model that cannot be built here: {error}") from error
    return model


def describe_model(model: Recommender) -> dict[str, Any]:
    """The arguments that a model was built with, those of a model in it included, as plain JSON values."""
    if not isinstance(model, WrappedModel):
        return model.config
    own = {name: value for name, value in model.config.items() if name not in ("model", "data")}
    return own | {"model": [type(model.model).__name__, describe_model(model.model)]}


def _build(name: str, config: dict[str, Any]) -> Recommender:
    if isinstance(inner := config.get("model"), list):
        kind: Any = find_class(name, defenses, WrappedModel)
        around: Recommender = kind(_build(*inner), None, **{k: v for k, v in config.items() if k != "model"})
        return around
    kind = find_class(name, models, Recommender)
    model: Recommender = kind(**config)
    return model


def trained_on(path: str | Path, data: HeteroData) -> bool:
    """Whether a saved model was trained on the training interactions of `data`, whatever its features.

    True as well where the file does not say what the model was trained on.

    Raises:
        CheckpointError: If the file is missing, foreign or damaged.
    """
    return _read(path)[1]["trained_on"] in ("", _training_hash(data))


def _training_hash(data: HeteroData) -> str:
    sizes = torch.tensor([int(data["user"].num_nodes), int(data["item"].num_nodes)])
    return hash_tensors(sizes=sizes, train=interactions(data, "train"))


def _checksum(weights: dict[str, Tensor], metadata: dict[str, str]) -> str:
    return hash_json([hash_tensors(**weights), *(metadata[key] for key in ("class", "config", "trained_on"))])


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the model {path}: {error}") from error
    if not {"class", "config", "trained_on", "sha256"} <= set(metadata):
        raise CheckpointError(f"{path} holds weights, but not the class and arguments of a model of this library")
    if _checksum(weights, metadata) != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged (its checksum differs)")
    return weights, metadata
