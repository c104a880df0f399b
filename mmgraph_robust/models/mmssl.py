"""MMSSL without its generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import batch_squares
from mmgraph_robust.nn.init import xavier_linear, xavier_uniform
from mmgraph_robust.nn.noise import seeded_dropout
from mmgraph_robust.sparse import spmm
from mmgraph_robust.typing import Features


class MMSSL(Recommender):
    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        id_rate: float = 0.36,
        feature_rate: float = 0.55,
        dropout: float = 0.2,
        temperature: float = 0.5,
        contrast: float = 0.03,
        feature_reg: float = 1e-5,
        reg: float = 1e-5,
        trainable_features: bool = False,
        seed: int = 0,
        mode="sqrt", soft=False,
    ) -> None:
        super().__init__(num_users, num_items, feature_dims, trainable_features=trainable_features, seed=seed)
        self._check_modalities()
        self.mode=mode;self.soft=soft
        self.num_layers = num_layers
        self.id_rate = id_rate
        self.feature_rate = feature_rate
        self.dropout = dropout
        self.temperature = temperature
        self.contrast = contrast
        self.feature_reg = feature_reg
        self.reg = reg
        self.user_id = torch.nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_id = torch.nn.Parameter(torch.empty(num_items, embedding_dim))
        self.attention_out = torch.nn.Parameter(torch.empty(embedding_dim, embedding_dim))
        self.projection = torch.nn.ModuleDict(
            {m: torch.nn.Linear(dim, embedding_dim) for m, dim in self.feature_dims.items()}
        )
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        xavier_uniform(self.user_id, generator)
        xavier_uniform(self.item_id, generator)
        xavier_uniform(self.attention_out, generator)
        for linear in self.projection.values():
            xavier_uniform(linear.weight, generator)
            torch.nn.init.zeros_(linear.bias)

    def _ops(self, graph):
        du, di = graph.user_degree.clamp(min=1).float(), graph.item_degree.clamp(min=1).float()
        R = graph.interactions
        if self.mode == "sqrt":
            return (lambda x: spmm(R, x) * du.rsqrt()[:, None]), (lambda x: spmm(R.t(), x) * di.rsqrt()[:, None])
        if self.mode == "mean":
            return (lambda x: spmm(R, x) / du[:, None]), (lambda x: spmm(R.t(), x) / di[:, None])
        S = graph.interactions_sym
        return (lambda x: spmm(S, x)), (lambda x: spmm(S.t(), x))

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        features = self.read(features)
        to_user, to_item = self._ops(graph)
        fu, fi = {}, {}
        for m in self.modalities:
            x = seeded_dropout(self.projection[m](features[m]), self.dropout, graph.generator(f"dropout_{m}"))
            fu[m] = to_user(x)
            fi[m] = to_item(fu[m])
        su, si = to_user(self.item_id), to_item(self.user_id)
        user = self.user_id + self.id_rate * F.normalize(su @ self.attention_out, dim=1)
        item = self.item_id + self.id_rate * F.normalize(si @ self.attention_out, dim=1)
        us, its = [user], [item]
        for l in range(self.num_layers):
            user = to_user(item)
            if self.soft and l == self.num_layers - 1: user = user.softmax(1)
            item = to_item(user)
            if self.soft and l == self.num_layers - 1: item = item.softmax(1)
            us.append(user); its.append(item)
        user, item = sum_tensors(us) / len(us), sum_tensors(its) / len(its)
        user = sum_tensors([user] + [self.feature_rate * F.normalize(x, dim=1) for x in fu.values()])
        items = {"id": item} | {m: self.feature_rate * F.normalize(x, dim=1) for m, x in fi.items()}
        return Embeddings(dict.fromkeys(items, user), items, {"s": su} | {f"u{m}": x for m, x in fu.items()} | {f"i{m}": x for m, x in fi.items()})

    def training_graph(self, graph, previous, features, step, generator):
        return graph.with_seed(int(torch.randint(1 << 31, (), generator=generator)))

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        user, item = embeddings.concatenated()
        total = self.reg * batch_squares(user, item, batch.ids)
        total = total + self.feature_reg * sum_tensors([x.square().sum() for k, x in embeddings.extra.items() if k != "s"]) / (2 * self.num_items)
        rows = torch.unique(batch.user)
        e = F.normalize(F.embedding(rows, embeddings.extra["s"]), dim=1)
        h = F.normalize(F.embedding(rows, user), dim=1)
        between = e @ h.t() / self.temperature
        within = (e @ e.t() / self.temperature).fill_diagonal_(-torch.inf)
        c = (torch.cat([between, within], 1).logsumexp(1) - between.diagonal()).mean()
        return total + self.contrast * len(self.modalities) * c
