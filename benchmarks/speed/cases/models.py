"""Whole training steps and evaluation passes, at the published sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.speed import references_models as public
from benchmarks.speed.case import Case, Contestant, Role, Run, Settings
from benchmarks.speed.cases.item_graphs import TEXTUAL, VISUAL, K
from benchmarks.speed.cases.products import dense
from benchmarks.speed.graphs import REAL, user_item
from benchmarks.speed.references import dense_neighbours
from mmgraph_robust import models
from mmgraph_robust.data import Batch, Graph, TripleLoader
from mmgraph_robust.data.schema import build
from mmgraph_robust.evaluation import Evaluator
from mmgraph_robust.metrics import hits, ranking_metrics
from mmgraph_robust.models import FREEDOM, LATTICE, Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.typing import Features

BATCH = 2048
_USERS_AT_A_TIME = 4096
_LIST = 50

Loss = Callable[[Recommender], Tensor]


@dataclass(frozen=True)
class Training:
    """A model at its initial parameters, and all that a step reads."""

    model: Recommender
    features: Features
    graph: Graph
    batch: Batch

    def step(self, model: Recommender, loss: Callable[[], Tensor], leaves: Features | None = None) -> Run:
        """Forward, loss, backward and Adam; every contestant trains a copy of its own."""
        optimizer = torch.optim.Adam([*model.parameters(), *(leaves or {}).values()], lr=1e-3)

        def forward() -> Tensor:
            value = loss()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            return value.detach()

        return Run(forward)


def step_cases(settings: Settings) -> list[Case]:
    """One training step of each of the four graph backbones."""
    if not settings.smoke and not (settings.data / REAL[0] / f"{REAL[0]}.inter").is_file():
        return []
    cases = []
    for name, contestants in _CONTESTANTS.items():
        kind, *_ = name.split(",")
        case = Case(
            operation="step",
            name=f"{name}, {REAL[0]}, {VISUAL:,} and {TEXTUAL}",
            build=partial(_training, kind, settings),
            contestants=contestants,
            # Losses of the very first step, and of equal parameters.
            tolerance=1e-4,
        )
        cases.append(case)
    return cases


def evaluation_cases(settings: Settings) -> list[Case]:
    """All validation users of amazon-baby against all items, at every cut-off up to 50; and the metrics alone."""
    if not settings.smoke and not (settings.data / REAL[0] / f"{REAL[0]}.inter").is_file():
        return []
    return [
        Case(
            operation="evaluation",
            name=f"{REAL[0]}, {what}, one held-out item per user",
            build=partial(_ranking, settings),
            contestants=(
                Contestant("torch.topk, items sought in arrays", partial(_loops, "array", ranked), most_repeats=3),
                Contestant("torch.topk, lean Python loops", partial(_loops, "set", ranked), most_repeats=3),
                Contestant("ours", partial(_own_metrics, ranked), role="ours"),
            ),
        )
        for what, ranked in (("ranking and metrics", False), ("metrics of ranked lists", True))
    ]


def _training(kind: str, settings: Settings) -> Training:
    adj = user_item(REAL[0], settings).to(settings.device)
    widths = (16, 8) if settings.smoke else (VISUAL, TEXTUAL)
    features = {
        name: dense(adj.num_cols, settings, seed, width, grad=False)
        for seed, (name, width) in enumerate(zip(("visual", "textual"), widths, strict=True))
    }
    dims = {name: x.size(1) for name, x in features.items()}
    model: Recommender = getattr(models, kind)(adj.num_rows, adj.num_cols, dims).to(settings.device)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # From its own start every model scores near zero, and all losses are log 2, whatever was computed.
            if name in ("id", "user_id", "item_id"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    graph = Graph(adj)
    if model.knn_k is not None:
        graph = graph.with_item_graphs(model.item_graphs(features, graph))
    batch = next(TripleLoader(graph, BATCH).epoch(torch.Generator().manual_seed(0)))
    model.train()
    return Training(model, features, graph, batch)


def _own(first: bool, trainable: bool, training: Training) -> Run:
    model = copy.deepcopy(training.model)
    if trainable:
        model = type(model)(**{**model.config, "trainable_features": True}).to(model.device)
        model.load_state_dict(training.model.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(0)

    def graph(previous: Graph | None) -> Graph:
        return model.training_graph(training.graph, previous, training.features, int(previous is not None), generator)

    kept = graph(None)

    def loss() -> Tensor:
        current = graph(None) if first else graph(kept)
        return model.loss(model(training.features, current), training.batch, training.features)

    return training.step(model, loss)


def _public(loss: Callable[..., Tensor], training: Training) -> Run:
    model, edges = copy.deepcopy(training.model), public.EdgeLists(training.graph)
    return training.step(model, lambda: loss(model, training.features, edges, training.batch))


def _public_freedom(trainable: bool, training: Training) -> Run:
    model = copy.deepcopy(training.model)
    if not isinstance(model, FREEDOM):
        raise TypeError(type(model).__name__)
    pruned = model.training_graph(training.graph, None, training.features, 0, torch.Generator().manual_seed(0))
    edges = public.EdgeLists(pruned)
    parts = [
        a.with_value(torch.full((a.num_edges,), model.weights[m] / K, device=a.device))
        for m, a in training.graph.item_graphs.items()
    ]
    joint = Adjacency.sum(parts)
    similar = torch.sparse_coo_tensor(
        joint.edge_index(), joint.values(), joint.shape, check_invariants=False
    ).coalesce()
    leaves = {m: x.clone().requires_grad_(trainable) for m, x in training.features.items()}
    return training.step(
        model,
        lambda: public.freedom_loss(model, leaves, edges, similar, training.batch),
        leaves if trainable else None,
    )


def _public_lattice(first: bool, training: Training) -> Run:
    model, edges = copy.deepcopy(training.model), public.EdgeLists(training.graph)
    if not isinstance(model, LATTICE):
        raise TypeError(type(model).__name__)
    original = {}
    for name, x in training.features.items():
        near = dense_neighbours(x, min(K, x.size(0)))
        scale = near.sum(1).pow(-0.5)
        original[name] = scale[:, None] * near * scale
    with torch.no_grad():
        kept = public.lattice_graph(model, training.features, original)

    def loss() -> Tensor:
        similar = public.lattice_graph(model, training.features, original) if first else kept
        return public.lattice_loss(model, training.features, edges, similar, training.batch)

    return training.step(model, loss)


def _contestants(reference: Contestant, *more: Contestant) -> tuple[Contestant, ...]:
    own: Role = "ours"
    return (reference, Contestant("ours", partial(_own, False, False), role=own), *more)


_CONTESTANTS: dict[str, tuple[Contestant, ...]] = {
    "FREEDOM": (
        Contestant("COO, all items projected", partial(_public_freedom, False), most_repeats=5),
        Contestant("ours", partial(_own, False, False), role="ours"),
    ),
    "FREEDOM, trainable features": (
        Contestant("COO, all items projected", partial(_public_freedom, True), most_repeats=5),
        Contestant("ours", partial(_own, False, True), role="ours"),
    ),
    "MMGCN": _contestants(Contestant("gather and scatter", partial(_public, public.mmgcn_loss), most_repeats=3)),
    "GRCN": _contestants(Contestant("gather and scatter", partial(_public, public.grcn_loss), most_repeats=3)),
    "LATTICE, first step of an epoch": (
        Contestant("dense item graph, built anew", partial(_public_lattice, True), most_repeats=1),
        Contestant("ours", partial(_own, True, False), role="ours"),
    ),
    "LATTICE, another step": _contestants(
        Contestant("dense item graph, kept", partial(_public_lattice, False), most_repeats=3)
    ),
}


@dataclass(frozen=True)
class Ranking:
    """Embeddings and what they are judged by."""

    evaluator: Evaluator
    embeddings: Embeddings


def _ranking(settings: Settings) -> Ranking:
    adj = user_item(REAL[0], settings)
    edge_index = adj.edge_index()
    label = torch.zeros(adj.num_edges, dtype=torch.long)
    label[adj.rowptr[:-1].long()[adj.degree() > 1]] = 1  # a user's first item is held out
    data = build(edge_index, label, {}, num_users=adj.num_rows, num_items=adj.num_cols)
    most = min(_LIST, adj.num_cols)
    evaluator = Evaluator(data, "val", list(range(1, most + 1)), ("recall", "ndcg"))
    user, item = dense(adj.num_rows, settings, 0, grad=False), dense(adj.num_cols, settings, 1, grad=False)
    return Ranking(evaluator, Embeddings({"id": user}, {"id": item}))


def _own_metrics(ranked: bool, ranking: Ranking) -> Run:
    evaluator = ranking.evaluator
    kept = evaluator.lists(ranking.embeddings)

    def forward() -> Tensor:
        lists = kept if ranked else evaluator.lists(ranking.embeddings)
        hit = hits(lists, evaluator.users, evaluator.relevant)
        found = ranking_metrics(hit, evaluator.num_relevant[evaluator.users], evaluator.k, evaluator.metrics)
        return torch.stack([torch.stack([found[f"{m}@{k}"].mean() for k in evaluator.k]) for m in ("recall", "ndcg")])

    return Run(forward)


def _loops(kind: public.Collection, ranked: bool, ranking: Ranking) -> Run:
    evaluator, (user, item) = ranking.evaluator, ranking.embeddings.concatenated()
    seen, most = evaluator.seen, max(evaluator.k)
    relevant = [part for part in evaluator.relevant.col.split(evaluator.relevant.degree().tolist()) if part.numel()]

    def rank() -> Tensor:
        lists = []
        for start in range(0, evaluator.users.numel(), _USERS_AT_A_TIME):
            users = evaluator.users[start : start + _USERS_AT_A_TIME]
            scores = user[users.to(user.device)] @ item.t()
            rows, columns = _seen_pairs(seen, users)
            scores[rows.to(user.device), columns.to(user.device)] = -1e10
            lists.append(torch.topk(scores, most).indices)
        return torch.cat(lists)

    kept = rank()
    return Run(lambda: public.loop_metrics(kept if ranked else rank(), relevant, most, kind))


def _seen_pairs(seen: Adjacency, users: Tensor) -> tuple[Tensor, Tensor]:
    count = seen.degree()[users]
    rows = torch.arange(users.numel()).repeat_interleave(count)
    begin = seen.rowptr.long()[users].repeat_interleave(count)
    within = torch.arange(rows.numel()) - (count.cumsum(0) - count).repeat_interleave(count)
    return rows, seen.col[begin + within].long()
