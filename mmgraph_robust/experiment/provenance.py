"""How a result came about."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data import features
from mmgraph_robust.training import data_hash
from mmgraph_robust.utils import device_name, hash_tensors
from mmgraph_robust.version import __version__

_PACKAGES = ("torch", "torch-geometric", "numpy")


def provenance(data: HeteroData, device: str) -> dict[str, str]:
    """Hashes of the data, versions, commit, device, machine and time, as plain strings."""
    name = device_name(device)
    gpu = f", {name}" if torch.device(device).type == "cuda" else ""
    result = {
        "version": __version__,
        "commit": _COMMIT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads{gpu}",
        "data_hash": data_hash(data),
        "feature_hash": hash_tensors(**features(data)),
    }
    for package in _PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "unknown"
    return result


def _commit() -> str:
    folder = Path(__file__).resolve().parents[1]  # the whole package: any of it may change a number
    try:
        git = ["git", "-C", str(folder)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", str(folder)], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with uncommitted changes" if changed else "")


# Read once, with the code: the checkout may move on while a long run goes on with what it imported.
_COMMIT = _commit()
