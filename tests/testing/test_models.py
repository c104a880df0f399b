"""The public checks must fail for planted defects."""

import pytest
import torch

from mmgraph_robust.models import VBPR, Embeddings, LightGCN
from mmgraph_robust.sparse import spmm
from mmgraph_robust.testing import ConformanceError, check_model


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
        (OneDirection, "users send no messages to items"),
    ],
)
def test_planted_defects_are_found(shop, kind, message):
    model = kind.from_data(shop, embedding_dim=4)
    with pytest.raises(ConformanceError, match=message):
        check_model(model, shop, uses_graph=kind is OneDirection)
