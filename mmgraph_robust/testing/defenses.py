"""Public conformance checks for defenses, one's own included."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.checks import Snapshot
from mmgraph_robust.data import synthetic
from mmgraph_robust.defenses import Defense
from mmgraph_robust.models import VBPR, Recommender
from mmgraph_robust.testing.models import ConformanceError
from mmgraph_robust.training import fit


def check_defense(defense: Defense, model: Recommender | None = None, data: HeteroData | None = None) -> None:
    """Checks that a defense keeps the contract that makes a defended training worth comparing.

    A defense that is a model around a model is a model: see :func:`check_model`.

    Args:
        defense: The defense.
        model: What it defends, left as it is (default: a small VBPR).
        data: The data set (default: a small made-up one).

    Raises:
        ConformanceError: If it changes nothing, touches the data or the structure of the model, draws random numbers
            from elsewhere than its generators, remembers one training in the next, does not go on to the same numbers
            after an interruption (what it learns belongs into ``state``), or describes itself in more than plain
            values.
        ConfigError: If it refuses the model.
    """
    if (model is None) != (data is None):
        raise ConformanceError("'check_defense' expects a model and its data together, or neither")
    if model is None or data is None:
        data = synthetic(num_users=40, num_items=30, modalities={"visual": 8, "textual": 6})
        model = VBPR.from_data(data, embedding_dim=4)
    try:
        json.dumps(defense.describe(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"'describe' returns more than plain JSON values: {error}") from error
    before, described = Snapshot(model, data), defense.describe()
    whole = _train(defense, model, data, draws=0)
    changed = before.changed(model, data)
    if changed:
        raise ConformanceError(f"a defended training changes {', '.join(changed)}")
    if defense.describe() != described:
        raise ConformanceError("a defended training changes what 'describe' says: what is learned begins with '_'")
    plain = _train(None, model, data, draws=0)
    if whole.keys() != plain.keys():
        raise ConformanceError(f"it changes the structure of the model: {sorted(whole.keys() ^ plain.keys())}")
    if not _different(whole, plain):
        raise ConformanceError("two epochs with it give the weights of two without: it does nothing to this model")
    again = _train(defense, model, data, draws=1)
    reason = (
        "random numbers of the process play a part, or what the object remembers of an earlier training: draw from the "
        "generators, set up in 'setup'"
    )
    _require_same(whole, again, reason)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        _train(copy.deepcopy(defense), model, data, draws=2, epochs=1, checkpoint=path)
        # Another process has another object.
        resumed = _train(copy.deepcopy(defense), model, data, draws=3, checkpoint=path)
    reason = "an interrupted training goes on to other numbers: what the defense learns belongs into 'state'"
    _require_same(whole, resumed, reason)


def _train(
    defense: Defense | None, model: Recommender, data: HeteroData, *, draws: int, epochs: int = 2,
    checkpoint: Path | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    victim = copy.deepcopy(model)
    for parameter in victim.parameters():
        parameter.requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(draws)
        fit(
            victim, data, defense, max_epochs=epochs, batch_size=64, learning_rate=0.01, checkpoint=checkpoint,
            checkpoint_every=1, progress=False,
        )  # fmt: skip
    return victim.state_dict()


def _different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    return [name for name, x in first.items() if not torch.equal(x, second[name])]


def _require_same(first: dict[str, Tensor], second: dict[str, Tensor], reason: str) -> None:
    different = _different(first, second)
    if different:
        raise ConformanceError(f"{reason} (other weights: {', '.join(different[:3])})")
