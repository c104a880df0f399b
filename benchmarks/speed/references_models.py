"""The backbones' training steps as public code computes them: edge lists that are gathered and scattered, COO products,
all items projected in every step, dense item graphs. Each takes one of our models and reads its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from benchmarks.speed.references import dense_lattice
from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.models import FREEDOM, GRCN, LATTICE, MMGCN, Embeddings
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.nn import bpr_loss
from mmgraph_robust.typing import Features

Collection: TypeAlias = Literal["array", "set"]


class EdgeLists:
    """What public code keeps of a graph: edges in both directions, users stacked over items."""

    def __init__(self, graph: Graph) -> None:
        row, col = graph.bipartite.edge_index()
        self.target, self.source = row, col
        self.size = graph.num_nodes
        self.num_users = graph.num_users
        self.user, self.item = graph.interactions.edge_index()
        degree = torch.bincount(row, minlength=self.size).clamp(min=1).float()
        self.coo = self._coo(degree[row].rsqrt() * degree[col].rsqrt())
        loops = torch.arange(self.size, device=row.device)
        self.walk = torch.sparse_coo_tensor(
            torch.stack([torch.cat([row, loops]), torch.cat([col, loops])]),
            torch.cat([1 / (degree[row] + 1), 1 / (torch.bincount(row, minlength=self.size).float() + 1)]),
            (self.size, self.size),
            check_invariants=False,
        ).coalesce()

    def _coo(self, value: Tensor) -> Tensor:
        index = torch.stack([self.target, self.source])
        return torch.sparse_coo_tensor(index, value, (self.size, self.size), check_invariants=False).coalesce()

    def attend(self, query: Tensor, x: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Dot-product attention over a target's edges, and its weights."""
        message = x.index_select(0, source)
        weight = softmax((query.index_select(0, target) * message).sum(-1), target, num_nodes=query.size(0))
        return scatter(weight.view(-1, 1) * message, target, dim=0, dim_size=query.size(0)), weight

    def mean(self, x: Tensor) -> Tensor:
        """The mean over neighbours."""
        return scatter(x.index_select(0, self.source), self.target, dim=0, dim_size=self.size, reduce="mean")

    def weighted(self, x: Tensor, weight: Tensor) -> Tensor:
        """The weighted sum over neighbours."""
        return scatter(weight.view(-1, 1) * x.index_select(0, self.source), self.target, dim=0, dim_size=self.size)


def mmgcn_loss(model: MMGCN, features: Features, edges: EdgeLists, batch: Batch) -> Tensor:
    """One forward pass and loss of MMGCN."""
    branches = {}
    for name in model.modalities:
        x = model.projection[name](features[name]) if name in model.projection else features[name]
        x = F.normalize(torch.cat([model.preference[name], x]))
        for conv in model.convs[name]:  # type: ignore[union-attr]
            h = F.leaky_relu(edges.mean(x @ conv.weight))
            own = F.leaky_relu(conv.lin_self(x)) + model.id
            x = F.leaky_relu(conv.lin_out(torch.cat([h, own], dim=1)))
        branches[name] = x / len(model.modalities)
    user = sum_tensors([x[: edges.num_users] for x in branches.values()])
    item = {name: x[edges.num_users :] for name, x in branches.items()}
    return model.loss(Embeddings(dict.fromkeys(item, user), item), batch, features)


def grcn_loss(model: GRCN, features: Features, edges: EdgeLists, batch: Batch) -> Tensor:
    """One forward pass and loss of GRCN."""
    content, affinities = {}, []
    for name in model.modalities:
        f = F.normalize(F.leaky_relu(model.projection[name](features[name])))
        p = F.normalize(model.preference[name])
        for _ in range(model.routing.num_routings):
            p = F.normalize(p + edges.attend(p, f, edges.item, edges.user)[0])
        x = torch.cat([p, f])
        message, weight = edges.attend(x, x, edges.source, edges.target)
        content[name] = x + message
        affinities.append(weight)
    confidence = model.confidence.index_select(0, edges.source)
    weight = torch.stack([a * confidence[:, m] for m, a in enumerate(affinities)]).amax(0).relu()
    x = F.normalize(model.id)
    layers = [x]
    for _ in range(model.num_layers):
        layers.append(edges.weighted(layers[-1], weight))
    content["id"] = sum_tensors(layers)
    user = {name: x[: edges.num_users] for name, x in content.items()}
    item = {name: x[edges.num_users :] for name, x in content.items()}
    return model.loss(Embeddings(user, item), batch, features)


def freedom_loss(model: FREEDOM, features: Features, edges: EdgeLists, similar: Tensor, batch: Batch) -> Tensor:
    """One forward pass and loss of FREEDOM; all items are projected."""
    user, item = _propagate(edges.coo, model.user_id, model.item_id, model.propagation.num_layers)
    item = item + torch.sparse.mm(similar, model.item_id)
    users = user[batch.user]
    loss = bpr_loss((users * item[batch.positive]).sum(1), (users * item[batch.negative]).sum(1))
    for name, x in features.items():
        projected = model.projection[name](x)
        pair = (users * projected[batch.positive]).sum(1), (users * projected[batch.negative]).sum(1)
        loss = loss + model.reg * bpr_loss(*pair)
    return loss


def lattice_graph(model: LATTICE, features: Features, original: Features) -> Tensor:
    """The dense item graph, as the first batch of an epoch builds it."""
    return dense_lattice(model.latent, features, original)


def lattice_loss(model: LATTICE, features: Features, edges: EdgeLists, similar: Tensor, batch: Batch) -> Tensor:
    """One forward pass and loss of LATTICE on a dense item graph."""
    user, item = _propagate(edges.walk, model.user_id, model.item_id, model.propagation.num_layers)
    item = item + F.normalize(similar @ model.item_id)
    return model.loss(Embeddings({"id": user}, {"id": item}), batch, features)


def loop_metrics(lists: Tensor, relevant: Sequence[Tensor], k: int, kind: Collection) -> Tensor:
    """Recall and NDCG at every cut-off up to `k`, averaged over users, in Python loops: ``[2, k]``.

    The items of a user's list are sought one by one among her relevant ones, which a usual toolbox keeps as an array
    of NumPy (``"array"``) and a careful programmer as a set of numbers (``"set"``).
    """
    recall, ndcg = [0.0] * k, [0.0] * k
    discount = [1 / torch.tensor(place + 2.0).log2().item() for place in range(k)]
    if kind == "array":
        truths: list[Any] = [truth.numpy() for truth in relevant]
        rows: list[Any] = list(lists.cpu().numpy())
    else:
        truths, rows = [set(truth.tolist()) for truth in relevant], lists.tolist()
    for items, wanted in zip(rows, truths, strict=True):
        hit, gain, ideal = 0, 0.0, 0.0
        for place in range(k):
            if items[place] in wanted:
                hit += 1
                gain += discount[place]
            if place < len(wanted):
                ideal += discount[place]
            recall[place] += hit / len(wanted)
            ndcg[place] += gain / ideal
    return torch.tensor([recall, ndcg]) / len(rows)


def _propagate(matrix: Tensor, user: Tensor, item: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
    layers = [torch.cat([user, item])]
    for _ in range(num_layers):
        layers.append(torch.sparse.mm(matrix, layers[-1]))
    mean = torch.stack(layers).mean(0)
    return mean[: user.size(0)], mean[user.size(0) :]
