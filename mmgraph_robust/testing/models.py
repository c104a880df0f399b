"""Public conformance checks for models, one's own included."""

from __future__ import annotations

import copy

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data import Graph, TripleLoader, with_features
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.errors import MMGraphError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency


class ConformanceError(MMGraphError):
    """A model, attack or defense that breaks the contract."""


def check_model(model: Recommender, data: HeteroData, *, uses_graph: bool = True) -> None:
    """Checks that a model keeps the contract that attacks, defenses and evaluation rest on.

    Args:
        model: A freshly built model; it is not changed.
        data: A small data set that fits it; it is not changed, even by a model that changes its features.
        uses_graph: Whether messages on the user-item graph should reach the scores.

    Raises:
        ConformanceError: If the forward pass returns no fitting :class:`~mmgraph_robust.models.Embeddings`, features
            are changed or cached, two forward passes differ, the seed does not fix the initial parameters, a parameter
            never moves, or an edge direction carries no messages.
    """
    _check_seed(model)
    model = copy.deepcopy(model)
    graph = Graph.from_data(data).to(model.device)
    before = model.features(data)
    # A model that changes its features must not change the user's data.
    features = {name: x.clone() for name, x in before.items()}
    model.eval()
    with torch.no_grad():
        first = model(features, graph)
        _require(isinstance(first, Embeddings), f"'forward' returns {type(first).__name__}, not Embeddings")
        sizes = first.num_users, first.num_items
        _require(sizes == (model.num_users, model.num_items), f"embeddings of {sizes[0]} users and {sizes[1]} items")
        user, item = first.concatenated()
        again = model(features, graph).concatenated()
        _require(torch.equal(user, again[0]) and torch.equal(item, again[1]), "two forward passes differ in eval mode")
        _require(all(torch.equal(x, before[m]) for m, x in features.items()), "the forward pass changed the features")
        if model.feature_path == "direct":
            for name in model.modalities:
                other = model.features(with_features(data, {name: features_of(data)[name].flip(0)}))
                moved = model(other, graph).concatenated()
                _require(
                    not (torch.equal(user, moved[0]) and torch.equal(item, moved[1])),
                    f"other features of '{name}' give the same embeddings: something is cached",
                )
        if uses_graph:
            _check_directions(model, graph)
    _check_training(model, graph)


def _check_seed(model: Recommender) -> None:
    first, second = (type(model)(**model.config).state_dict() for _ in range(2))
    drawn = [name for name, value in first.items() if not torch.equal(value, second[name])]
    _require(not drawn, f"one seed gives different initial parameters: {drawn}; draw them in '_reset'")


def _check_directions(model: Recommender, graph: Graph) -> None:
    features = model_features(model, graph)
    user, item = model(features, graph).concatenated()
    empty = torch.zeros(2, 0, dtype=torch.long, device=graph.device)
    alone = Graph(Adjacency.from_edge_index(empty, num_rows=graph.num_users, num_cols=graph.num_items))
    isolated = model(features, alone).concatenated()
    _require(not torch.allclose(isolated[0], user), "items send no messages to users")
    _require(not torch.allclose(isolated[1], item), "users send no messages to items")


def model_features(model: Recommender, graph: Graph) -> dict[str, torch.Tensor]:
    """Fixed made-up features of the sizes that a model reads."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(graph.num_items, dim, generator=generator).to(model.device)
        for name, dim in model.feature_dims.items()
    }


def _check_training(model: Recommender, graph: Graph) -> None:
    model.train()
    features = model_features(model, graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for epoch in range(3):
        for batch in TripleLoader(graph, 256).epoch(torch.Generator().manual_seed(epoch)):
            loss = model.loss(model(features, graph), batch, features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p.detach(), start[name])]
    _require(not still, f"parameters never move in training: {still}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)
