"""Measurements on disk: one JSON per device, each case with the run that it comes from."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import options
from benchmarks.speed.case import Settings
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import device_name as gpu_name
from mmgraph_robust.utils import read_json

Record = dict[str, Any]
RESULTS = options.RESULTS / "speed"
_PACKAGES = ("torch", "torch-geometric", "torch-sparse", "torch-scatter", "numpy", "scipy", "faiss-cpu")


def device_name(settings: Settings) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    device = torch.device(settings.device)
    if device.type == "cuda":
        return gpu_name(device)
    return f"{_processor()}, {settings.threads} thread{'s' * (settings.threads != 1)}"


def default_path(settings: Settings) -> Path:
    """Where the measurements of this device belong."""
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', device_name(settings).lower()).strip('-')}.json"


def provenance(settings: Settings, bandwidth: float) -> Record:
    """How a run came about."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "keep_freed_memory": settings.keep_freed_memory,
        "copy_bandwidth": bandwidth,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def begin(path: Path | None, settings: Settings) -> Record:
    """The record at `path`, to be added to; an empty one where there is none.

    Raises:
        ConfigError: If the one there is of another device.
    """
    record: Record = {
        "device": device_name(settings),
        "type": torch.device(settings.device).type,
        "smoke": settings.smoke,
        "runs": {},
        "cases": [],
    }
    if path is not None and path.exists():
        old: Record = read_json(path)
        if any(old.get(key) != record[key] for key in ("device", "type", "smoke")):
            raise ConfigError(f"{path} holds what was measured on '{old.get('device')}': name another file by --out")
        return old
    return record


def add(record: Record, run: Record, case: Record) -> None:
    """Puts a measured case into a record, in the place of an earlier one of its name."""
    key = (case["operation"], case["case"])
    others = [other for other in record["cases"] if (other["operation"], other["case"]) != key]
    record["cases"] = [*others, {"run": run["created"], **case}]
    runs = {**record["runs"], run["created"]: run}
    record["runs"] = {created: runs[created] for created in sorted({case["run"] for case in record["cases"]})}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(options.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "mmgraph_robust", "benchmarks/speed")
        return git("rev-parse", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
