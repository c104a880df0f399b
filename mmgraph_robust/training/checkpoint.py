"""Training state and trained models on disk: written whole or not at all, damage noticed, no code in them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mmgraph_robust import models
from mmgraph_robust.errors import CheckpointError, unknown_name
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import atomic_write, hash_tensors

_MAGIC = b"mmgraph_robust checkpoint 1 "


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and strings, nested in dicts and lists, with a checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    with atomic_write(path) as file:
        file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
        file.write(payload)


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
    state: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
    return state


def save_model(model: Recommender, path: str | Path) -> None:
    """Writes a trained model: its weights as safetensors, its class and arguments beside them.

    Args:
        model: A model of this library, or of a class registered in :mod:`mmgraph_robust.models`.
        path: The file, by custom ``*.safetensors``.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        "class": type(model).__name__,
        "config": json.dumps(model.config),
        "sha256": hash_tensors(**weights),
    }
    with atomic_write(path) as file:
        file.write(save(weights, metadata))


def load_model(path: str | Path) -> Recommender:
    """Builds the model that :func:`save_model` wrote, on the CPU.

    Raises:
        CheckpointError: If the file is missing, foreign or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the model {path}: {error}") from error
    if not {"class", "config", "sha256"} <= set(metadata):
        raise CheckpointError(f"{path} holds weights, but not the class and arguments of a model of this library")
    if hash_tensors(**weights) != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged (its checksum differs)")
    known = {name: getattr(models, name) for name in models.__all__}
    kind = known.get(metadata["class"])
    if not (isinstance(kind, type) and issubclass(kind, Recommender)):
        raise CheckpointError(unknown_name("model class", metadata["class"], known) + f" in {path}")
    model = kind(**json.loads(metadata["config"]))
    model.load_state_dict(weights)
    return model
