"""Numbers as short text, for JSON files."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmgraph_robust.errors import CheckpointError


def pack(values: Tensor) -> str:
    """``[n]`` numbers as float32, compressed, in base64: a metric per user takes few values, so a few kilobytes.

    Args:
        values: The numbers.
    """
    # In torch, since NumPy has no bfloat16.
    raw = values.detach().cpu().float().numpy().astype("<f4").tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def unpack(text: str) -> npt.NDArray[np.float32]:
    """The ``[n]`` numbers of :func:`pack`.

    Raises:
        CheckpointError: If the text is damaged or none.
    """
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype="<f4").astype(np.float32)
    except (TypeError, ValueError, zlib.error, binascii.Error) as error:
        raise CheckpointError(f"packed numbers are damaged ({error})") from error
