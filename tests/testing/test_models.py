"""The public checks must fail for planted defects."""

import pytest
import torch

from mmgraph_robust.models import VBPR, Embeddings, LightGCN
from mmgraph_robust.sparse import spmm
from mmgraph_robust.testing import ConformanceError, check_model
from mmgraph_robust.training import data_hash


class Stale(VBPR):
    def forward(self, features, graph):
        if not hasattr(self, "kept"):
            self.kept = {m: x.clone() for m, x in features.items()}
        return super().forward(self.kept, graph)


class Mutating(VBPR):
    def forward(self, features, graph):
        features["visual"].mul_(0.5)
        return super().forward(features, graph)


class NeverMoves(VBPR):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.spare = torch.nn.Parameter(torch.ones(2))


class Noisy(VBPR):
    def forward(self, features, graph):
        return super().forward({m: x + torch.randn_like(x) for m, x in features.items()}, graph)


class Unseeded(VBPR):
    def _reset(self, generator):
        super()._reset(None)


class WrongSize(VBPR):
    def forward(self, features, graph):
        out = super().forward(features, graph)
        return Embeddings(out.user, {c: x[:-1] for c, x in out.item.items()})


class NoEmbeddings(VBPR):
    def forward(self, features, graph):
        return super().forward(features, graph).concatenated()


class OneDirection(LightGCN):
    def forward(self, features, graph):
        return Embeddings({"id": self.user_id + spmm(graph.interactions, self.item_id)}, {"id": self.item_id})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Stale, "cached"),
        (Mutating, "differ|changed the features"),
        (NeverMoves, "never move.*spare"),
        (Noisy, "differ"),
        (Unseeded, "one seed gives different"),
        (WrongSize, "embeddings of 120 users and 79 items"),
        (NoEmbeddings, "returns tuple"),
        (OneDirection, "users send no messages to items"),
    ],
)
def test_planted_defects_are_found(shop, kind, message):
    model = kind.from_data(shop, embedding_dim=4)
    before = data_hash(shop)
    with pytest.raises(ConformanceError, match=message):
        check_model(model, shop, uses_graph=kind is OneDirection)
    assert data_hash(shop) == before
