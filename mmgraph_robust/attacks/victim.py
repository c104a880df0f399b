"""What attacks need to know of a model, and how they leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.data.graph import Graph
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.utils import child_generator, evaluating, hash_json, hash_tensors

_SAME = 1e-4


def graph_under(model: Recommender, data: HeteroData, threat: ThreatModel) -> Graph:
    """The compiled graph of clean data, without the item graphs that follow the features under a threat model."""
    graph = model.graph(data)
    # That of a modality that nobody attacks is the same in both policies.
    kept = [m for m in graph.item_graphs if threat.graph == "frozen" or m not in threat.modalities]
    return graph.with_item_graphs({m: graph.item_graphs[m] for m in kept})


def immunity(model: Recommender) -> str:
    """Why a model without a feature path cannot be attacked."""
    return (
        f"no item feature reaches the score of '{type(model).__name__}': that it does not change is no robustness of a "
        "multi-modal model"
    )


def seen_by(graph: Graph, threat: ThreatModel) -> Adjacency:
    """The interactions whose items are not recommended again; none where training positives themselves are judged."""
    if threat.labels != "train":
        return graph.interactions
    empty = torch.zeros(2, 0, dtype=torch.long, device=graph.device)
    return Adjacency.from_edge_index(empty, num_rows=graph.num_users, num_cols=graph.num_items)


def same(first: Embeddings, second: Embeddings) -> bool:
    """Whether two sets of embeddings agree but for rounding."""
    pairs = zip(first.concatenated(), second.concatenated(), strict=True)
    return all(bool((a - b).abs().max() <= _SAME * a.abs().max().clamp(min=1e-30)) for a, b in pairs)


def fingerprint(model: Recommender) -> str:
    """What tells a trained model from others of its class: a short hash of its settings and weights."""
    return hash_json([model.config, hash_tensors(**model.state_dict())])[:12]


def reseed(model: torch.nn.Module, seed: int, purpose: str) -> None:
    """Sets the random numbers that a forward pass draws from the process; only inside :func:`frozen`."""
    start = child_generator(seed, "attack", purpose).initial_seed()
    # torch.manual_seed would reach devices that are not restored.
    torch.default_generator.manual_seed(start)
    for device in _cuda_devices(model):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(start)


def _cuda_devices(model: torch.nn.Module) -> set[torch.device]:
    return {p.device for p in model.parameters() if p.device.type == "cuda"}


@contextmanager
def frozen(model: torch.nn.Module, seed: int = 0) -> Iterator[None]:
    """Evaluation mode without parameter gradients, whatever happens restored to what it was.

    A forward pass that draws random numbers draws them from `seed`, and the process's own are left as they were.
    """
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in flags:
        parameter.requires_grad_(False)
    try:
        with evaluating(model), torch.random.fork_rng(_cuda_devices(model)):
            reseed(model, seed, "forward")
            yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
