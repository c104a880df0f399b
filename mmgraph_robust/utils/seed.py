"""One seed, many named and independent streams of random numbers."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from mmgraph_robust.errors import ConfigError


def child_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, named by `names`.

    Streams of different names are independent, so adding a consumer of randomness (an attack, a metric) never
    changes the numbers that another one draws. Only zeros at the end say nothing: ``("a",)`` and ``("a", 0)`` are one
    stream, so give a purpose its own word.

    Args:
        seed: The seed of the whole experiment, a non-negative integer.
        names: The purpose, e.g. ``("sampling", epoch)``.
        device: Where the generator lives.

    Raises:
        ConfigError: If the seed is negative or no whole number.
    """
    if int(seed) != seed or seed < 0:
        raise ConfigError(f"'seed' expects a whole number >= 0 (got {seed})")
    keys = [n if isinstance(n, int) else zlib.crc32(n.encode()) for n in names]
    state = np.random.SeedSequence([int(seed), *keys]).generate_state(2, np.uint32)
    generator = torch.Generator(device=device)
    generator.manual_seed((int(state[0]) << 31) ^ int(state[1]))
    return generator
