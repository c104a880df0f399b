"""Public conformance checks for models, one's own included."""

from __future__ import annotations

import copy
import dataclasses
import math

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data import Graph, TripleLoader
from mmgraph_robust.errors import DataError, MMGraphError, NonFiniteError
from mmgraph_robust.models import Embeddings, LinearEncoder, Recommender
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import unit_rows


class ConformanceError(MMGraphError):
    """A model, attack or defense that breaks the contract."""


def check_model(model: Recommender, data: HeteroData, *, uses_graph: bool = True) -> None:
    """Checks that a model keeps the contract that attacks, defenses and evaluation rest on.

    Args:
        model: A freshly built model; it is not changed.
        data: A small data set that fits it; it is not changed, even by a model that changes its features.
        uses_graph: Whether messages on the user-item graph should reach the scores, of users and of items: other
            neighbours, as many as before, must give other embeddings.

    Raises:
        DataError: If `uses_graph`, and no interactions of `data` can be exchanged without changing anyone's number.
        ConformanceError: If the forward pass returns no fitting :class:`~mmgraph_robust.models.Embeddings`; an
            embedding or a loss is not finite; the score is not the sum of its channels, or the loss trains another one;
            all vectors of a side and channel follow parameters and pass them no gradient (a cut of some is not seen);
            features are changed, or anything is kept between calls; two forward passes differ, or two training steps of
            one seed; the seed does not fix the initial parameters; features reach the score in another way than
            :attr:`~mmgraph_robust.models.Recommender.feature_path` says; neighbours are searched past the graph's own
            search; an edge direction carries no messages; its ``item_encoder`` gives other vectors or gradients than a
            full pass; its ``row_encoder`` gives items that have not changed other vectors than their own, lets one row
            move another's vector, or passes features no gradient or a false one; or a parameter never moves.
    """
    _check_seed(model)
    model = copy.deepcopy(model)
    graph = Graph.from_data(data).to(model.device).with_item_graphs({})
    # A model that changes its features must not change the user's data.
    features = {name: x.clone() for name, x in model.features(data).items()}
    model.eval()
    _check_forward(model, features, graph)
    _check_feature_path(model, features, graph)
    _check_search(model, features, graph)
    if uses_graph:
        _check_directions(model, features, graph)
    _check_item_encoder(model, features, graph)
    _check_row_encoder(model, features, graph)
    _check_uncut(model, features, graph)
    _check_loss(model, features, graph)
    _check_training(model, features, graph)


def _check_seed(model: Recommender) -> None:
    first, second = (type(model)(**model.config).state_dict() for _ in range(2))
    drawn = [name for name, value in first.items() if not torch.equal(value, second[name])]
    _require(not drawn, f"one seed gives different initial parameters: {drawn}; draw them in '_reset'")


@torch.no_grad()
def _check_forward(model: Recommender, features: Features, graph: Graph) -> None:
    before = {name: x.clone() for name, x in features.items()}
    first = model(features, graph)
    _require(isinstance(first, Embeddings), f"'forward' returns {type(first).__name__}, not Embeddings")
    sizes = first.num_users, first.num_items
    _require(sizes == (model.num_users, model.num_items), f"embeddings of {sizes[0]} users and {sizes[1]} items")
    try:
        first.check_finite()
    except NonFiniteError as error:
        raise ConformanceError(f"the forward pass returns what is not finite: {error}") from error
    again = model(features, graph)
    _require(_equal(first, again), "two forward passes differ in eval mode")
    _require(all(torch.equal(x, before[m]) for m, x in features.items()), "the forward pass changed the features")
    # In double precision: where large channels cancel each other, a small score is their rounding.
    precise = copy.copy(first)  # of the model's own class
    object.__setattr__(precise, "user", {c: x.double() for c, x in first.user.items()})
    object.__setattr__(precise, "item", {c: x.double() for c, x in first.item.items()})
    channels = torch.as_tensor(sum(precise.user[c] @ precise.item[c].t() for c in precise.user))
    user, item = precise.concatenated()
    everyone = torch.arange(sizes[0], device=model.device).repeat_interleave(sizes[1])
    everything = torch.arange(sizes[1], device=model.device).repeat(sizes[0])
    for name, scores in (
        ("scores", precise.scores(everyone, everything).view(*sizes)),
        ("channel_scores", sum(precise.channel_scores(everyone, everything).values())),
        ("concatenated", user @ item.t()),
    ):
        _require(
            torch.allclose(torch.as_tensor(scores).view(*sizes), channels, rtol=1e-4, atol=1e-5),
            f"'{name}' of the embeddings gives scores that are not the sum of their channels",
        )


def _check_feature_path(model: Recommender, features: Features, graph: Graph) -> None:
    """Compares what the model says about its features with what they do, with item graphs built anew and handed in."""
    path = model.feature_path
    for name, x in features.items():
        moved = not _equal(model(features, graph), model(features | {name: x.flip(0)}, graph))
        if path == "none":
            _require(not moved, f"feature_path is 'none', but other features of '{name}' give other embeddings")
            continue
        _require(moved, f"other features of '{name}' give the same embeddings: they are cached, or never read")
        # With every item graph handed in, learned ones too, features have no graph left to act through.
        with torch.no_grad():
            given = {} if model.knn_k is None else model.item_graphs(features, graph)
        frozen = graph.with_item_graphs(given).with_latent_graphs(given if path == "graph" else {})
        slope = _slope(model, features, name, frozen)
        if path == "direct":
            _require(slope > 0, f"feature_path is 'direct', but no gradient of the scores reaches '{name}'")
        else:
            past = slope > 0 or not _equal(model(features, frozen), model(features | {name: x.flip(0)}, frozen))
            _require(not past, f"feature_path is 'graph', but '{name}' reaches the scores past the item graphs")


@torch.no_grad()
def _check_search(model: Recommender, features: Features, graph: Graph) -> None:
    """Neighbours that are searched in any other way than the graph's are hidden from attacks on the item graph."""
    asked = []

    def search(x: Tensor, k: int) -> Adjacency:
        asked.append(k)
        return graph.search(x, k)

    model(features, graph.with_search(search))
    _require(
        model.knn_k is None or bool(asked),
        "knn_k is set, but the forward pass never calls 'graph.search', by which attacks see past the choice of "
        "neighbours: take graphs from 'self.item_graphs(features, graph)', or search by 'graph.search(x, k)'",
    )


def _slope(model: Recommender, features: Features, name: str, graph: Graph) -> float:
    """How far the scores of probing pairs move with the features of one modality, to first order."""
    x = features[name].detach().clone().requires_grad_()
    with torch.enable_grad():
        user, item = model(features | {name: x}, graph).concatenated()
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(len(y), generator=generator).to(y) for y in (user, item))
        value = ((left @ user) * (right @ item)).sum()
    if not value.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
    return 0.0 if gradient is None else float(gradient.abs().max())


@torch.no_grad()
def _check_directions(model: Recommender, features: Features, graph: Graph) -> None:
    """With as many neighbours as before, but other ones, embeddings differ only by what the neighbours sent."""
    other = graph.with_interactions(_rewired(graph.interactions))
    ours, theirs = model(features, graph), model(features, other)
    _require(not _near(ours.user, theirs.user), "items send no messages to users")
    _require(not _near(ours.item, theirs.item), "users send no messages to items")


def _rewired(adjacency: Adjacency) -> Adjacency:
    """Another matrix with the same number of edges in every row and column: pairs of edges swap their columns."""
    row, col = adjacency.edge_index().tolist()
    before = set(zip(row, col, strict=True))
    there = set(before)
    pairs = torch.randint(max(len(row), 1), (8 * len(row), 2), generator=torch.Generator().manual_seed(0))
    for a, b in pairs.tolist():
        new = {(row[a], col[b]), (row[b], col[a])}
        if there.isdisjoint(new):
            there -= {(row[a], col[a]), (row[b], col[b])}
            there |= new
            col[a], col[b] = col[b], col[a]
    if there == before:
        raise DataError(
            "'data' expects training interactions that can be exchanged between users without changing any number of "
            f"neighbours, to see whether messages pass (got {len(row)} that cannot): take a larger, sparser data set"
        )
    edge_index = torch.tensor([row, col], device=adjacency.device)
    return Adjacency.from_edge_index(edge_index, num_rows=adjacency.num_rows, num_cols=adjacency.num_cols)


def _check_item_encoder(model: Recommender, features: Features, graph: Graph) -> None:
    """A model's own short cut must give what a full pass gives, after a change that is no small one."""
    if type(model).item_encoder is Recommender.item_encoder:
        return
    embeddings = model(features, graph)
    items = torch.arange(0, model.num_items, 3, device=model.device).flip(0)
    for name in (m for m in model.modalities if m in embeddings.channels):
        found = []
        for kind in (type(model), Recommender):
            rows = (2 * features[name].flip(0)).index_select(0, items).requires_grad_()
            encode = kind.item_encoder(model, name, items, features, embeddings, graph)
            vectors = encode(rows)
            if isinstance(encode, LinearEncoder):
                _check_linear(encode, rows, vectors, name)
            leaves = [rows, *model.parameters()]
            toward = torch.linspace(-1, 2, vectors.numel(), device=rows.device, dtype=rows.dtype).view_as(vectors)
            slopes = torch.autograd.grad((vectors * toward).sum(), leaves, retain_graph=True, allow_unused=True)
            found.append(
                [vectors, *(torch.zeros_like(x) if s is None else s for x, s in zip(leaves, slopes, strict=True))]
            )
        for what, ours, full in zip(["vectors", *["gradients"] * (len(found[0]) - 1)], *found, strict=True):
            near = 1e-4 * float(full.detach().abs().max())
            _require(
                ours.shape == full.shape and torch.allclose(ours, full, rtol=1e-3, atol=near),
                f"'item_encoder' gives other {what} in the channel of '{name}' than a full pass: "
                "correct it, or leave it out (a subclass with a 'forward' of its own inherits that of its base)",
            )


def _check_linear(encode: LinearEncoder, rows: Tensor, vectors: Tensor, name: str) -> None:
    """A change of rows, no small one, moves the vectors by its product with the matrix."""
    change = torch.linspace(-1, 2, rows.numel(), device=rows.device, dtype=rows.dtype).view_as(rows)
    change = change * rows.detach().abs().mean()
    with torch.no_grad():
        moved, told = encode(rows + change) - vectors, change @ encode.matrix
    _require(
        moved.shape == told.shape and torch.allclose(moved, told, rtol=1e-3, atol=1e-4 * float(told.abs().max())),
        f"'item_encoder' is no product with its matrix in the channel of '{name}': correct the 'LinearEncoder', or "
        "return a function",
    )


def _check_row_encoder(model: Recommender, features: Features, graph: Graph) -> None:
    """What holds all else where it is: the items' own vectors, each led by its own row alone, with a true gradient."""
    embeddings = model(features, graph).detach()
    items = torch.arange(0, model.num_items, 3, device=model.device).flip(0)
    advice = "correct it, or return None (a subclass with a 'forward' of its own inherits that of its base)"
    for name in (m for m in model.modalities if m in embeddings.channels):
        encode = model.row_encoder(name, items, features, embeddings, graph)
        if encode is None:
            continue
        rows = features[name].index_select(0, items).requires_grad_()
        vectors, own = encode(rows), embeddings.item[name].index_select(0, items)
        near = 1e-4 * float(own.abs().max())
        _require(
            vectors.shape == own.shape and torch.allclose(vectors, own, rtol=1e-3, atol=near),
            f"'row_encoder' gives items with their own features other vectors in the channel of '{name}' than the "
            f"forward pass: {advice}",
        )
        with torch.no_grad():
            changed = rows.index_copy(0, torch.zeros(1, dtype=torch.long, device=rows.device), 2 * rows[-1:])
            _require(
                torch.allclose(encode(changed)[1:], vectors[1:], rtol=1e-3, atol=near),
                f"'row_encoder' lets the features of one item move another's vector in the channel of '{name}': "
                f"{advice}",
            )
        toward = torch.linspace(-1, 2, vectors.numel(), device=rows.device, dtype=rows.dtype).view_as(vectors)
        slope = torch.zeros_like(rows)
        if vectors.requires_grad:
            (slope,) = torch.autograd.grad((vectors * toward).sum(), [rows], allow_unused=True, materialize_grads=True)
        # Most, for a row may sit where a model of kinks is flat.
        _require(
            bool(slope.any(dim=1).double().mean() > 0.5),
            f"'row_encoder' passes the features of '{name}' no gradient, or those of some items: {advice}",
        )
        # A small step along the gradient, row by row, has to climb what it is the gradient of.
        with torch.no_grad():
            step = 1e-2 * rows.norm(dim=1, keepdim=True) * unit_rows(slope)
            climbed = ((encode(rows + step) - encode(rows - step)) * toward).sum(1)[slope.any(dim=1)]
        _require(
            bool((climbed > 0).double().mean() > 0.9),
            f"'row_encoder' gives the features of '{name}' a gradient that leads elsewhere: {advice}",
        )


def _check_uncut(model: Recommender, features: Features, graph: Graph) -> None:
    """Vectors without a gradient may come from the features alone, but not from parameters."""
    embeddings = model(features, graph)
    fixed = [name for name, x in _vectors(embeddings).items() if not x.requires_grad]
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5).add_(0.1)
        ours, theirs = _vectors(embeddings), _vectors(other(features, graph))
    for name in fixed:
        side, channel = name.split(" ", 1)
        _require(
            torch.equal(ours[name], theirs[name]),
            f"the {side} vectors of channel '{channel}' follow parameters, and no gradient reaches those: they are cut "
            "off in 'forward' ('detach', 'no_grad')",
        )


def _check_loss(model: Recommender, features: Features, graph: Graph) -> None:
    """The loss must train the score that the channels say: every one of them gets a gradient, on both sides."""
    batch = next(TripleLoader(graph, 256).epoch(torch.Generator().manual_seed(0)))
    embeddings = model(features, graph)
    for side in ("user", "item"):
        for channel in embeddings.channels:
            vectors = dict(getattr(embeddings, side))
            leaf = vectors[channel] = vectors[channel].detach().clone().requires_grad_()
            loss = model.loss(dataclasses.replace(embeddings, **{side: vectors}), batch, features)
            found = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
            _require(
                found is not None and bool(found.any()),
                f"the loss does not depend on the {side} vectors of channel '{channel}': it trains another score than "
                "the sum of the channels",
            )


def _check_training(model: Recommender, features: Features, graph: Graph) -> None:
    with torch.no_grad():
        graph = graph.with_item_graphs(model.item_graphs(features, graph) if model.knn_k is not None else {})
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = [_train(copy.deepcopy(model), features, graph) for _ in range(2)]
    same = torch.allclose(torch.tensor(losses[0]), torch.tensor(losses[1]))
    _require(same, "two trainings of one seed differ: take randomness from the graph's 'generator'")
    _train(model, features, graph)
    still = [name for name, p in model.named_parameters() if torch.equal(p.detach(), start[name])]
    _require(not still, f"parameters never move in training: {still}")
    twin = type(model)(**model.config).to(model.device)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        same = _near(*(_vectors(m.eval()(features, graph)) for m in (model, twin)))
    _require(same, "a new model with the same parameters gives other embeddings: something is kept between calls")


def _train(model: Recommender, features: Features, graph: Graph) -> list[float]:
    """A few epochs as :func:`~mmgraph_robust.training.fit` trains; the losses."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for epoch in range(3):
        generator = torch.Generator().manual_seed(epoch)
        current: Graph | None = None
        for step, batch in enumerate(TripleLoader(graph, 256).epoch(torch.Generator().manual_seed(epoch))):
            current = model.training_graph(graph, current, features, step, generator)
            loss = model.loss(model(features, current), batch, features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            _require(math.isfinite(losses[-1]), f"the loss is not finite in training step {len(losses)}")
    return losses


def _vectors(embeddings: Embeddings) -> dict[str, Tensor]:
    sides = {"user": embeddings.user, "item": embeddings.item}
    return {f"{side} {channel}": x for side, matrices in sides.items() for channel, x in matrices.items()}


def _equal(a: Embeddings, b: Embeddings) -> bool:
    one, other = _vectors(a), _vectors(b)
    return one.keys() == other.keys() and all(torch.equal(x, other[name]) for name, x in one.items())


def _near(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(x, b[name], atol=1e-6) for name, x in a.items())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)
