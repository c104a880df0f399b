"""Seconds, and the bandwidth that they are held against."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.speed.case import Run


def synchronize(device: torch.device | str) -> None:
    """Waits for the GPU; the CPU never runs ahead."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def once(run: Run, upstream: Tensor | None, device: torch.device | str) -> tuple[float, float | None]:
    """Seconds of one forward and, where there are leaves, of its backward pass; no graph is kept.

    Args:
        run: What is timed.
        upstream: The gradient of the forward pass's result; :obj:`None` draws one.
        device: Where it runs.
    """
    synchronize(device)
    start = time.perf_counter()
    result = run.forward()
    synchronize(device)
    forward = time.perf_counter() - start
    if not run.leaves:
        return forward, None
    upstream = torch.randn_like(result) if upstream is None else upstream
    synchronize(device)
    start = time.perf_counter()
    torch.autograd.grad(result, run.leaves, upstream)
    synchronize(device)
    return forward, time.perf_counter() - start


def copy_bandwidth(device: torch.device | str, size: int = 256 << 20, tries: int = 10) -> float:
    """Bytes per second, read and written, of the best copy of `size` bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)
    seconds = min(once(Run(lambda: target.copy_(source)), None, device)[0] for _ in range(tries))
    return 2 * source.nbytes / seconds
