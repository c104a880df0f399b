"""Training."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.item_graphs import stored_item_graphs
from mmgraph_robust.data.sampling import Batch, TripleLoader
from mmgraph_robust.data.schema import ITEM, USER, interactions
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.validate import validate
from mmgraph_robust.defenses import Defense, Step, WrappedModel
from mmgraph_robust.errors import CheckpointError, ConfigError
from mmgraph_robust.evaluation.ranking import Evaluator, embed
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Recommender
from mmgraph_robust.models.base import check_recommender
from mmgraph_robust.training.checkpoint import describe_model, load_checkpoint, save_checkpoint
from mmgraph_robust.training.guards import check_defended, check_gradients, check_loss
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import (
    Categorical,
    Domain,
    Float,
    check_out,
    child_generator,
    hash_json,
    hash_tensors,
    keeping_modes,
)
from mmgraph_robust.version import TRAINING_VERSION

SEARCH_SPACE: Mapping[str, Domain] = {
    "learning_rate": Float(1e-4, 1e-2, log=True),
    "batch_size": Categorical([1024, 2048, 4096]),
}
"""Where a study searches the settings of :func:`fit`, by name."""


@dataclass
class History:
    """What happened during training.

    Attributes:
        records: One dict per epoch: ``epoch``, ``loss``, ``seconds``, the validation metrics in evaluated epochs, and
            the defense's numbers.
        monitor: The metric that chose the weights.
        best_epoch: The epoch whose weights the model has now.
        best: The validation value of `monitor` there.
        stopped_early: Whether patience ended the training.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    monitor: str = "recall@20"
    best_epoch: int = -1
    best: float = float("-inf")
    stopped_early: bool = False

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return len(self.records)

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(record["seconds"] for record in self.records)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(epochs={self.epochs}, best_epoch={self.best_epoch}, {self.monitor}={self.best:.4f})"
        )


def fit(
    model: Recommender,
    data: HeteroData,
    defense: Defense | None = None,
    *,
    seed: int = 0,
    max_epochs: int = 100,
    min_epochs: int = 1,
    batch_size: int = 2048,
    learning_rate: float = 1e-3,
    learning_rate_decay: float = 1.0,
    weight_decay: float = 0.0,
    patience: int = 20,
    eval_every: int = 1,
    monitor: str = "recall@20",
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 5,
    progress: bool = True,
    graph: Graph | None = None,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Trains a model on the training split, with Adam and early stopping on the validation split.

    The model is trained where it is: move it first to train on another device. All randomness comes from `seed`, so
    the same call gives the same numbers, bitwise on the CPU, but for what a model of one's own draws from the process
    itself, as :class:`torch.nn.Dropout` does (it should draw from ``graph.generator``). The weights of the best
    validated epoch are restored, and the mode, training or evaluation, that the model was in.

    Args:
        model: The model; it goes on from the weights that it has.
        data: The data set.
        defense: Plugged into every step.
        seed: Seed of the order of triples, of negatives, and of the defense.
        max_epochs: Number of passes over the training interactions, at most.
        min_epochs: And at least: patience counts from there, and the weights are chosen from there on. For a trained
            model that goes on under a defense, of which the first epochs are the cleanest and the least robust.
        batch_size: Triples per step.
        learning_rate: Adam's step size.
        learning_rate_decay: Its factor per epoch.
        weight_decay: Adam's L2 penalty.
        patience: Training stops once this many epochs have passed without a better validation value.
        eval_every: Validate every so many epochs.
        monitor: The validation metric that decides, such as ``"recall@20"``.
        checkpoint: A file to keep the state of training in. Where it exists, training goes on from it, to the same
            numbers as without the interruption, whatever weights the model has by then; a warning says if these are
            neither those that the training began with nor those that it arrived at. What came to the end of
            `max_epochs` goes on if there are more now; it was validated at that end, which counts.
        checkpoint_every: Write it every so many epochs.
        progress: Whether to show a progress bar.
        graph: The graph of `data` compiled for the model, where it is at hand.
        on_epoch: Called after every epoch with the history so far; what it raises ends the training and passes through.

    Raises:
        DataError: If the data are not usable, or there is no validation split.
        ConfigError: If an argument is out of range, the checkpoint cannot be written, a defense changes features that
            the model does not meet, or the model goes around one that is trained first
            (:class:`~mmgraph_robust.defenses.Smoothed`).
        NonFiniteError: If the loss or a gradient becomes NaN or infinite.
        CheckpointError: If the checkpoint is damaged, was made with other settings or data, or holds more than
            `max_epochs`.
    """
    cutoff = check_settings(
        max_epochs=max_epochs, min_epochs=min_epochs, batch_size=batch_size, learning_rate=learning_rate,
        learning_rate_decay=learning_rate_decay, weight_decay=weight_decay, patience=patience, eval_every=eval_every,
        monitor=monitor, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    check_recommender(model)
    if defense is not None and not isinstance(defense, Defense):
        raise ConfigError(
            f"'defense' expects an object such as FeatureNoise(), or None (got {defense!r}, a {type(defense).__name__})"
        )
    if isinstance(model, WrappedModel) and not model.trains:
        raise ConfigError(
            f"'{type(model).__name__}' goes around a model that is trained already: train that one, then wrap it"
        )
    validate(data, splits=("train", "val"))
    evaluator = Evaluator(data, "val", sorted({10, 20, cutoff}), mask_validation=False)
    graph = (model.graph(data) if graph is None else graph).to(model.device)
    features = model.features(data)
    if defense is not None:
        defense.setup(model, data, graph)
    loader = TripleLoader(graph, batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    history = History(monitor=monitor)
    best = copy.deepcopy(model.state_dict())
    key, start = "", ""
    if checkpoint is not None:
        start = hash_tensors(**best)
        settings = [seed, batch_size, learning_rate, learning_rate_decay, weight_decay, eval_every, monitor]
        # Left out at its default, so that checkpoints of before it go on.
        settings += [min_epochs] if min_epochs > 1 else []
        key = hash_json(
            [
                TRAINING_VERSION, *settings, type(model).__name__, describe_model(model),
                defense.describe() if defense else None, data_hash(data), list(model.modalities),
            ]
        )  # fmt: skip
        if Path(checkpoint).exists():
            start, best = _resume(Path(checkpoint), key, start, max_epochs, model, optimizer, history, defense)
            if history.epochs == max_epochs and monitor not in history.records[-1]:
                # It was to go on when it was written; now this is the end, which is validated.
                best = _judge(history.records[-1], evaluator, model, data, graph, history, best, min_epochs)
            # Patience may be another than when the checkpoint was written.
            last = max((int(r["epoch"]) for r in history.records if monitor in r), default=-1)
            history.stopped_early = last - max(history.best_epoch, min_epochs - 1) >= patience
        # What is finished is only read.
        if history.epochs < max_epochs and not history.stopped_early:
            check_out(checkpoint, "file")
    bar = tqdm(
        total=max_epochs * len(loader), initial=history.epochs * len(loader), disable=not progress,
        desc=type(model).__name__, unit="step", mininterval=0.5, dynamic_ncols=True,
    )  # fmt: skip
    with keeping_modes(model), bar:
        while history.epochs < max_epochs and not history.stopped_early:
            epoch = history.epochs
            started = time.perf_counter()
            record: dict[str, float] = {"epoch": epoch}
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * learning_rate_decay**epoch
            record |= _train_epoch(model, graph, features, loader, optimizer, defense, seed, epoch, bar)
            if (epoch + 1) % eval_every == 0 or epoch + 1 == max_epochs:
                best = _judge(record, evaluator, model, data, graph, history, best, min_epochs)
                bar.set_postfix({"loss": f"{record['loss']:.4f}", monitor: f"{record[monitor]:.4f}",
                                 "best": f"{history.best:.4f}"}, refresh=False)  # fmt: skip
                history.stopped_early = epoch - max(history.best_epoch, min_epochs - 1) >= patience
            record["seconds"] = time.perf_counter() - started
            history.records.append(record)
            done = history.stopped_early or history.epochs == max_epochs
            if checkpoint is not None and (done or history.epochs % checkpoint_every == 0):
                _store(Path(checkpoint), key, start, model, optimizer, history, best, defense)
            if on_epoch is not None:
                on_epoch(history)
    model.load_state_dict(best)
    return history


def check_settings(
    *,
    max_epochs: int,
    min_epochs: int = 1,
    batch_size: int,
    learning_rate: float,
    learning_rate_decay: float = 1.0,
    weight_decay: float,
    patience: int,
    eval_every: int,
    monitor: str,
    checkpoint_every: int = 1,
) -> int:
    """Checks the settings of :func:`fit`, and returns the cut-off of the monitored metric.

    Raises:
        ConfigError: If one is out of range.
    """
    counts = {
        "max_epochs": max_epochs, "min_epochs": min_epochs, "batch_size": batch_size, "patience": patience,
        "eval_every": eval_every, "checkpoint_every": checkpoint_every,
    }  # fmt: skip
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"'fit' expects {name} >= 1 (got {count})")
    if min_epochs > max_epochs:
        raise ConfigError(f"'fit' expects min_epochs <= max_epochs (got {min_epochs} and {max_epochs})")
    if not 0 < learning_rate < float("inf"):
        raise ConfigError(f"'fit' expects a finite learning_rate > 0 (got {learning_rate})")
    if not 0 < learning_rate_decay <= 1:
        raise ConfigError(f"'fit' expects learning_rate_decay above 0, at most 1 (got {learning_rate_decay})")
    if not 0 <= weight_decay < float("inf"):
        raise ConfigError(f"'fit' expects a finite weight_decay >= 0 (got {weight_decay})")
    return cutoff_of(monitor)


def data_hash(data: HeteroData) -> str:
    """SHA-256 over the interactions with their splits, the features, the item graphs where `data` stores some, and the
    numbers of users and items where they are more than these show."""
    tensors = {f"split_{name}": interactions(data, name) for name in ("train", "val", "test")}
    every = torch.cat(list(tensors.values()), dim=1)
    shown = [int(ids.max()) + 1 if ids.numel() else 0 for ids in every]
    shown[1] = max([shown[1], *(x.size(0) for x in features_of(data).values())])
    sizes = [int(data[USER].num_nodes), int(data[ITEM].num_nodes)]
    if sizes != shown:
        tensors["sizes"] = torch.tensor(sizes)
    for name, graph in stored_item_graphs(data).items():
        tensors |= {f"similar_{name}": graph.edge_index(), f"similar_{name}_weight": graph.values()}
    return hash_tensors(**tensors, **features_of(data))


def _train_epoch(
    model: Recommender,
    graph: Graph,
    clean: Features,
    loader: TripleLoader,
    optimizer: torch.optim.Optimizer,
    defense: Defense | None,
    seed: int,
    epoch: int,
    bar: Any,
) -> dict[str, float]:
    model.train()
    defense_generator = child_generator(seed, "defense", epoch)
    if defense is not None:
        defense.start_epoch(epoch, defense_generator)
    graph_generator = child_generator(seed, "graph", epoch)
    totals: dict[str, list[float]] = {}
    current: Graph | None = None
    for index, batch in enumerate(loader.epoch(child_generator(seed, "sampling", epoch))):
        current = model.training_graph(graph, current, clean, index, graph_generator)
        numbers = _train_step(
            model,
            current,
            clean,
            batch,
            optimizer,
            defense,
            defense_generator,
            epoch,
            index,
            epoch * len(loader) + index,
        )
        for name, value in numbers.items():
            totals.setdefault(name, []).append(value)
        bar.update()
    return {name: sum(values) / len(values) for name, values in totals.items()}


def _train_step(
    model: Recommender,
    graph: Graph,
    clean: Features,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    defense: Defense | None,
    generator: torch.Generator,
    epoch: int,
    index: int,
    step_index: int,
) -> dict[str, float]:
    features = clean
    if defense is not None:
        features = defense.features(clean, generator)
        check_defended(defense, model, graph, clean, features)
    embeddings = model(features, graph)
    loss = model.loss(embeddings, batch, features)
    check_loss(loss, "the loss", epoch, index)
    numbers = {"loss": float(loss.detach())}
    step = None
    if defense is not None:
        step = Step(model, graph, features, batch, embeddings, loss, generator, step_index, optimizer)
        extra, seen = defense.loss(step)
        check_loss(extra, f"the term of '{type(defense).__name__}'", epoch, index)
        loss = loss + extra
        numbers |= seen
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if defense is not None and step is not None:
        defense.gradients(step)
    check_gradients(model, epoch, index)
    optimizer.step()
    return numbers


def _judge(
    record: dict[str, float],
    evaluator: Evaluator,
    model: Recommender,
    data: HeteroData,
    graph: Graph,
    history: History,
    best: dict[str, Any],
    min_epochs: int,
) -> dict[str, Any]:
    """Validates the model at the end of the epoch of `record`; the best weights so far, these or `best`."""
    record |= evaluator(embed(model, data, graph))
    if record["epoch"] + 1 < min_epochs or record[history.monitor] <= history.best:
        return best
    history.best, history.best_epoch = record[history.monitor], int(record["epoch"])
    return copy.deepcopy(model.state_dict())


def _store(
    path: Path,
    key: str,
    start: str,
    model: Recommender,
    optimizer: torch.optim.Optimizer,
    history: History,
    best: dict[str, Any],
    defense: Defense | None,
) -> None:
    state = {
        "key": key,
        "start": start,
        "model": model.state_dict(),
        "best": best,
        "optimizer": optimizer.state_dict(),
        "history": vars(history),
        "defense": defense.state() if defense else {},
    }
    save_checkpoint(path, state)


def _resume(
    path: Path,
    key: str,
    start: str,
    max_epochs: int,
    model: Recommender,
    optimizer: torch.optim.Optimizer,
    history: History,
    defense: Defense | None,
) -> tuple[str, dict[str, Any]]:
    """Takes up what :func:`_store` wrote; the hash of the weights that the training began with, and the best ones."""
    state = load_checkpoint(path)
    if state.get("key") != key:
        raise CheckpointError(
            f"{path} belongs to a training with other settings, model, defense or data: "
            "name another file, or delete this one to start anew"
        )
    best: dict[str, Any] = state["best"]
    epochs = len(state["history"]["records"])
    if epochs > max_epochs:
        raise CheckpointError(
            f"{path} holds {epochs} epochs, more than max_epochs={max_epochs}: raise it, or name another file"
        )
    # Who calls again has a model as it was at the start, or the one that the training gave him.
    if start not in (state["start"], hash_tensors(**best)):
        warnings.warn(
            f"{path} belongs to a training that began with other weights than the model has: these are replaced by "
            "those of the file; to train them, name another file",
            stacklevel=3,
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, value in state["history"].items():
        setattr(history, name, value)
    if defense is not None:
        defense.load_state(state["defense"])
    return state["start"], best
