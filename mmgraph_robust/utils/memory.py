"""How the process gets its memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory for the next tensor instead of handing it back to the system.

    Matrices of a few megabytes, made and freed in every training step, otherwise cost a page fault per 4 KB each time.
    It is a choice for the whole process, so programs make it (the command line does), never the import of a library.

    Returns:
        Whether it could be set; only glibc on Linux knows it.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # 32 MB is the largest threshold that glibc takes.
    settings = ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)


def reset_peak_memory() -> None:
    """Starts :func:`peak_memory` anew, where the system can (Linux)."""
    # A system without it keeps the peak of the whole process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float | None:
    """The most memory that the process has held since :func:`reset_peak_memory`, in MiB; None where nobody knows."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else None
