"""Cutting a range into chunks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields ``(start, stop)`` pairs that cover ``range(length)`` in steps of at most `size`."""
    for start in range(0, length, max(1, size)):
        yield start, min(start + max(1, size), length)
