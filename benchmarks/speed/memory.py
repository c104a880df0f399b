"""Peak memory of one forward and backward pass, beside the inputs.

On the CPU each contestant gets a process of its own. It first runs the smoke version of the case, so that libraries
are loaded; then it prepares the real one, hands freed memory back to the system (a pass that reuses it would seem to
need none), resets Linux's high-water mark of the resident memory, runs once, and reads the mark.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import torch

from benchmarks.speed.case import Case, Run, Settings
from benchmarks.speed.clock import once, synchronize


@dataclass(frozen=True)
class Peak:
    """Bytes beside the inputs (`added`) and of the whole process or device (`total`), :obj:`None` where the system does
    not say; and the seconds of that one pass."""

    added: int | None = None
    total: int | None = None
    forward: float | None = None
    backward: float | None = None
    reason: str = ""


def peak_memory(case: Case, contestant: str, settings: Settings) -> Peak:
    """Runs one contestant of a case once, apart from all others."""
    try:
        if torch.device(settings.device).type == "cuda":
            return _on_cuda(case, contestant, settings)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_in_child, case.operation, case.name, contestant, settings).result()
    except BrokenProcessPool:
        return Peak(reason="its process was killed: memory ran out, most likely")
    except Exception as error:  # it is reported, and the others go on
        return Peak(reason=f"{type(error).__name__}: {error}".splitlines()[0])


def _in_child(operation: str, name: str, contestant: str, settings: Settings) -> Peak:
    from benchmarks.speed.cases import find

    torch.set_num_threads(settings.threads)
    once(_prepared(find(operation, name, replace(settings, smoke=True)), contestant), None, "cpu")
    run = _prepared(find(operation, name, settings), contestant)
    gc.collect()
    _return_freed_memory()
    before = _resident("VmRSS") if _reset_mark() else None
    forward, backward = once(run, None, "cpu")
    mark = None if before is None else _resident("VmHWM")
    added = None if mark is None or before is None else max(0, mark - before)
    return Peak(added, mark, forward, backward)


def _on_cuda(case: Case, contestant: str, settings: Settings) -> Peak:
    run = _prepared(case, contestant)
    gc.collect()
    torch.cuda.empty_cache()
    synchronize(settings.device)
    torch.cuda.reset_peak_memory_stats(settings.device)
    before = torch.cuda.memory_allocated(settings.device)
    forward, backward = once(run, None, settings.device)
    mark = torch.cuda.max_memory_allocated(settings.device)
    return Peak(mark - before, mark, forward, backward)


def _prepared(case: Case, contestant: str) -> Run:
    return next(c for c in case.contestants if c.name == contestant).prepare(case.build())


def _return_freed_memory() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # not glibc


def _reset_mark() -> bool:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int | None:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
