"""Engines: who computes a sparse product. The fastest is chosen per device and operation from a table, whose order was
measured on the CPU; on CUDA it was not, and is a guess."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.sparse.engines.base import Engine, Operation, Reduction
from mmgraph_robust.sparse.engines.embedding_bag import EmbeddingBagEngine
from mmgraph_robust.sparse.engines.gather import GatherEngine
from mmgraph_robust.sparse.engines.torch_csr import TorchCSREngine
from mmgraph_robust.sparse.engines.torch_scatter import TorchScatterEngine
from mmgraph_robust.sparse.engines.torch_sparse import TorchSparseEngine

ENVIRONMENT_VARIABLE = "MMGRAPH_ENGINE"
ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (EmbeddingBagEngine(), TorchCSREngine(), GatherEngine(), TorchSparseEngine(), TorchScatterEngine())
}


@cache
def engine_order() -> dict[str, dict[str, list[str]]]:
    """Engines from fast to slow, per device type and operation: on the CPU as ``benchmarks/speed`` measured them, on
    CUDA as one would expect, for it was not measured there."""
    table: dict[str, Any] = json.loads((files("mmgraph_robust.sparse") / "engines.json").read_text(encoding="utf-8"))
    return table


def choose_engine(
    operation: Operation, device: torch.device, name: str | None = None, *, dtype: torch.dtype = torch.float32
) -> Engine:
    """The engine for an operation: `name`, else the environment variable ``MMGRAPH_ENGINE``, else the table.

    Args:
        operation: ``"matmul"``, ``"dot"`` or ``"segment"``.
        device: Where it runs.
        name: An engine's name, or :obj:`None`. Operations that the named engine does not have go by the table.
        dtype: In what it is computed, float32 or float64; the table's engines are passed over where they lack it.

    Raises:
        ConfigError: If the name is unknown, if its package is not installed, or if torch is to be deterministic and
            the engine is not.
    """
    strict = torch.are_deterministic_algorithms_enabled() and device.type == "cuda"
    name = name or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if name is not None:
        if name not in ENGINES:
            raise ConfigError(unknown_name("engine", name, ENGINES))
        engine = ENGINES[name]
        if reason := engine.missing(device):
            raise ConfigError(f"engine '{name}' cannot be used on {device}: {reason}")
        if operation in engine.operations:
            if strict and not engine.deterministic_on_cuda:
                raise ConfigError(
                    f"engine '{name}' is not deterministic on CUDA; use engine 'gather', or call "
                    f"torch.use_deterministic_algorithms(False)"
                )
            return engine
    for other in engine_order().get(device.type, {}).get(operation, []):
        engine = ENGINES[other]
        if dtype in engine.dtypes and not engine.missing(device) and (engine.deterministic_on_cuda or not strict):
            return engine
    return ENGINES["gather"]


__all__ = ["ENGINES", "ENVIRONMENT_VARIABLE", "Engine", "Operation", "Reduction", "choose_engine", "engine_order"]
