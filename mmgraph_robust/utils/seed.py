"""One seed, many named and independent streams of random numbers."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils.arguments import is_whole


def child_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, named by `names`.

    Each stream is drawn anew, so adding a consumer of randomness (an attack, a metric) never changes the numbers that
    another one draws. Two names give two streams, but for a chance of one in 4 billion: torch's generator on the CPU
    reads 32 bits of a seed. Zeros at the end say nothing: ``("a",)`` and ``("a", 0)`` are one stream, so give a purpose
    its own word. Of a seed of 2**32 or more, as training draws them for its graphs, the upper bits stand where names
    do: seed ``1 + (5 << 32)`` without names is seed 1 with the name 5.

    Args:
        seed: The seed of the whole experiment, a non-negative integer.
        names: The purpose, e.g. ``("sampling", epoch)``: words, and whole numbers that are not negative.
        device: Where the generator lives.

    Raises:
        ConfigError: If the seed or a number among the names is negative or no whole number.
    """
    if not is_whole(seed) or seed < 0:
        raise ConfigError(f"'seed' expects a whole number >= 0 (got {seed!r})")
    for name in names:
        if not isinstance(name, str) and (not is_whole(name) or name < 0):
            raise ConfigError(f"'names' expects words and whole numbers >= 0 (got {name!r})")
    keys = [zlib.crc32(name.encode()) if isinstance(name, str) else int(name) for name in names]
    state = np.random.SeedSequence([int(seed), *keys]).generate_state(2, np.uint32)
    generator = torch.Generator(device=device)
    generator.manual_seed((int(state[0]) << 31) ^ int(state[1]))
    return generator
