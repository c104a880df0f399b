"""Small worlds that the tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import mmgraph_robust as mr

torch.set_num_threads(int(os.environ.get("MMGRAPH_TEST_THREADS", "1")))
# The same examples in every run: what fails once fails again.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

# A shell that starts the tests in the background has them ignore interrupts, which some of them are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(autouse=True)
def _seed():
    """No test depends on those before it, also where it draws from the process's random numbers."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shop():
    """A made-up shop whose sensitive modality is the visual one."""
    return mr.synthetic(num_users=120, num_items=80, modalities={"visual": 12, "textual": 10}, seed=1)


@pytest.fixture(scope="session")
def tiny():
    """Ten users, eight items, three modalities."""
    return mr.synthetic(
        num_users=10,
        num_items=8,
        modalities={"visual": 6, "textual": 5, "acoustic": 4},
        interactions_per_user=4.0,
        num_tastes=3,
        seed=3,
    )


@pytest.fixture(scope="session")
def trained(shop):
    """A trained VBPR on the shop."""
    model = mr.models.VBPR.from_data(shop, embedding_dim=16, reg=0.1)
    mr.fit(model, shop, max_epochs=60, batch_size=256, learning_rate=0.01, progress=False)
    return model


@pytest.fixture
def swappable():
    """A FREEDOM and its data: ten wanted items stand between a good and a bad neighbour, a little nearer to the good.

    Every user wants one of them and finds it; with the bad neighbour it falls behind thirty others.
    """
    axes = torch.eye(32)
    good, bad, own = (axes[i : 30 + i : 3] for i in range(3))
    others = axes[30].repeat(30, 1) + torch.linspace(0.1, 0.9, 30)[:, None] * axes[31]
    x = torch.cat([1.02 * good + bad + own, good, bad, others])
    users = torch.arange(20)
    pairs = torch.cat([torch.stack([users, users % 10]), torch.stack([users, torch.full((20,), 59)])], 1)
    data = mr.data.build(pairs, torch.tensor([2] * 20 + [0] * 20), {"visual": x}, num_items=60)
    model = mr.models.FREEDOM.from_data(data, embedding_dim=4, num_layers=0, knn_k=2)
    with torch.no_grad():
        model.user_id.zero_()[:, 0] = 1
        model.item_id.zero_()[:, 0] = torch.tensor([0.5] * 10 + [4.0] * 10 + [-1.0] * 10 + [0.5] * 30)
    return model, data


@pytest.fixture
def real_folder():
    """The folder of a real data set by name; a test is skipped where it does not lie beside the project."""

    def find(name):
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"the real data of {name} do not lie beside the project")
        return folder

    return find


@pytest.fixture
def hm(real_folder):
    """The real fashion data, where they lie beside the project."""
    return mr.read_mmrec(real_folder("hm"), features={"visual": "image_feat.npy", "textual": "text_feat.npy"})


@pytest.fixture
def unwritable(tmp_path):
    """A folder in which no file can be made."""
    folder = tmp_path / "unwritable"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        # To root rights are no hindrance; a file system that takes no files is.
        folder = Path("/proc")
        if not folder.is_dir():
            pytest.skip("root may write anywhere here")
    return folder
