"""The public checks must fail for planted defects."""

import pytest
import torch

from mmgraph_robust.data import Graph, add_item_graphs, build
from mmgraph_robust.errors import DataError
from mmgraph_robust.models import FREEDOM, GRCN, LATTICE, MGCN, VBPR, Embeddings, LightGCN, LinearEncoder
from mmgraph_robust.sparse import cosine_graph, spmm
from mmgraph_robust.testing import ConformanceError, check_model
from mmgraph_robust.testing.models import _rewired
from mmgraph_robust.testing.weak_models import FragileDirection
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


class OtherDirection(LightGCN):
    def forward(self, features, graph):
        return Embeddings({"id": self.user_id}, {"id": self.item_id + spmm(graph.interactions.t(), self.user_id)})


class DegreesInPlaceOfItems(OtherDirection):
    """Users see how many items they have, not which."""

    def forward(self, features, graph):
        out = super().forward(features, graph)
        return Embeddings({"id": out.user["id"] * graph.user_degree[:, None]}, out.item)


class DegreesInPlaceOfUsers(OneDirection):
    def forward(self, features, graph):
        out = super().forward(features, graph)
        return Embeddings(out.user, {"id": out.item["id"] / (1 + graph.item_degree[:, None])})


class KeptGraph(FREEDOM):
    """Finds similar items once and for all features."""

    def item_graphs(self, features, graph):
        if not hasattr(self, "kept"):
            self.kept = super().item_graphs(features, graph)
        return self.kept


class KeptScores(LightGCN):
    """Evaluates with the embeddings of the last training batch."""

    def forward(self, features, graph):
        if not self.training and hasattr(self, "kept"):
            return self.kept
        out = super().forward(features, graph)
        if self.training:
            self.kept = out.detach()
        return out


class OwnScores(Embeddings):
    def scores(self, user, item):
        return super().scores(user, item).sigmoid()


class OwnMatrices(Embeddings):
    def concatenated(self):
        user, item = super().concatenated()
        return user, item + 1


class OwnParts(Embeddings):
    def channel_scores(self, user, item):
        return {c: 2 * x for c, x in super().channel_scores(user, item).items()}


def scoring(kind):
    class Scoring(VBPR):
        def forward(self, features, graph):
            out = super().forward(features, graph)
            return kind(out.user, out.item)

    return Scoring


class OtherLoss(VBPR):
    """Trains a score without content, and declares one with it."""

    def loss(self, embeddings, batch, features):
        return super().loss(embeddings.subset(["id"]), batch, features)


class DeafLoss(LightGCN):
    """Trains its parameters past what it declares."""

    def loss(self, embeddings, batch, features):
        return super().loss(Embeddings({"id": self.user_id}, {"id": self.item_id}), batch, features)


class GlobalDropout(VBPR):
    def forward(self, features, graph):
        dropped = {m: torch.nn.functional.dropout(x, 0.5, self.training) for m, x in features.items()}
        return super().forward(dropped, graph)


class CutUsers(VBPR):
    """What users like in pictures is trained by the regulariser alone."""

    def forward(self, features, graph):
        out = super().forward(features, graph)
        return Embeddings(dict(out.user) | {"visual": out.user["visual"].detach()}, out.item)


class Infinite(VBPR):
    def forward(self, features, graph):
        out = super().forward(features, graph)
        return Embeddings(out.user, dict(out.item) | {"visual": out.item["visual"] / 0})


class NoNumber(VBPR):
    def loss(self, embeddings, batch, features):
        return super().loss(embeddings, batch, features) * float("nan")


class SaysNone(VBPR):
    feature_path = "none"


class SaysNoneOfAGraph(FREEDOM):
    feature_path = "none"


class SaysDirect(FREEDOM):
    feature_path = "direct"


class SaysGraph(VBPR):
    feature_path = "graph"


class SaysGraphOfGates(MGCN):
    feature_path = "graph"


class Ignored(VBPR):
    def forward(self, features, graph):
        return super().forward({m: torch.ones_like(x) for m, x in features.items()}, graph)


class Rounded(VBPR):
    """Features reach the scores, and no gradient comes back."""

    def forward(self, features, graph):
        return super().forward({m: x.round() for m, x in features.items()}, graph)


class OwnForward(VBPR):
    """Inherits a short cut that is not its own."""

    def forward(self, features, graph):
        return super().forward({m: x.tanh() for m, x in features.items()}, graph)


class DeafEncoder(VBPR):
    def item_encoder(self, *args):
        encode = super().item_encoder(*args)
        return lambda rows: encode(rows).detach() + 0 * encode(rows)


class Bent(VBPR):
    """The encoder is right, the matrix is not all of it."""

    def forward(self, features, graph):
        found = super().forward(features, graph)
        return Embeddings(found.user, found.item | {m: found.item[m].tanh() for m in self.modalities})

    def item_encoder(self, *args):
        encode = super().item_encoder(*args)
        return LinearEncoder(lambda rows: encode(rows).tanh(), encode.matrix)


class OwnRows(VBPR):
    def row_encoder(self, *args):
        encode = super().row_encoder(*args)
        return lambda rows: 2 * encode(rows)


class DeafRows(VBPR):
    def row_encoder(self, *args):
        encode = super().row_encoder(*args)
        return lambda rows: encode(rows.detach())


class SomeRows(VBPR):
    def row_encoder(self, *args):
        encode = super().row_encoder(*args)
        return lambda rows: encode(torch.cat([rows[:1], rows[1:].detach()]))


class OtherWay(GRCN):
    def row_encoder(self, *args):
        encode = super().row_encoder(*args)
        return lambda rows: encode(2 * rows.detach() - rows)


class FullRows(GRCN):
    def row_encoder(self, *args):
        return self.item_encoder(*args)


class OwnSearch(FREEDOM):
    """Finds neighbours by itself, where no attack can see past the choice."""

    def item_graphs(self, features, graph):
        return {m: graph.item_graphs.get(m) or cosine_graph(features[m], self.knn_k) for m in self.modalities}


DEFECTS = [
    (OwnSearch, "never calls 'graph.search'"),
    (OwnForward, "'item_encoder' gives other vectors in the channel of 'visual'"),
    (DeafEncoder, "'item_encoder' gives other gradients in the channel of 'visual'"),
    (Bent, "'item_encoder' is no product with its matrix in the channel of 'visual'"),
    (OwnRows, "'row_encoder' gives items with their own features other vectors in the channel of 'visual'"),
    (DeafRows, "'row_encoder' passes the features of 'visual' no gradient"),
    (SomeRows, "'row_encoder' passes the features of 'visual' no gradient, or those of some"),
    (OtherWay, "'row_encoder' gives the features of 'visual' a gradient that leads elsewhere"),
    (FullRows, "'row_encoder' lets the features of one item move another's vector in the channel of 'visual'"),
    (Stale, "cached"),
    (Mutating, "differ|changed the features"),
    (NeverMoves, "never move.*spare"),
    (Noisy, "differ"),
    (Unseeded, "one seed gives different"),
    (WrongSize, "embeddings of 120 users and 79 items"),
    (NoEmbeddings, "returns tuple"),
    (OneDirection, "users send no messages to items"),
    (OtherDirection, "items send no messages to users"),
    (DegreesInPlaceOfItems, "items send no messages to users"),
    (DegreesInPlaceOfUsers, "users send no messages to items"),
    (KeptGraph, "of 'visual' give the same embeddings"),
    (KeptScores, "kept between calls"),
    (scoring(OwnScores), "'scores' of the embeddings.*not the sum"),
    (scoring(OwnMatrices), "'concatenated' of the embeddings.*not the sum"),
    (scoring(OwnParts), "'(channel_)?scores' of the embeddings.*not the sum"),
    (OtherLoss, "channel 'visual': it trains another score"),
    (DeafLoss, "user vectors of channel 'id'"),
    (GlobalDropout, "two trainings of one seed differ"),
    (CutUsers, "user vectors of channel 'visual' follow parameters, and no gradient"),
    (Infinite, "not finite: item embedding of channel 'visual'"),
    (NoNumber, "the loss is not finite in training step 1"),
    (SaysNone, "'none', but other features of 'visual'"),
    (SaysNoneOfAGraph, "'none', but other features of 'visual'"),
    (SaysDirect, "'direct', but no gradient of the scores reaches 'visual'"),
    (SaysGraph, "'visual' reaches the scores past the item graphs"),
    (SaysGraphOfGates, "'visual' reaches the scores past the item graphs"),
    (Ignored, "never read"),
    (Rounded, "'direct', but no gradient"),
]


@pytest.mark.parametrize(("kind", "message"), DEFECTS, ids=[kind.__name__ for kind, _ in DEFECTS])
def test_planted_defects_are_found(shop, kind, message):
    model = kind.from_data(shop, embedding_dim=4)
    before = data_hash(shop)
    with pytest.raises(ConformanceError, match=message):
        check_model(model, shop, uses_graph=not issubclass(kind, VBPR))
    assert data_hash(shop) == before


def test_sound_models_pass_and_stay_as_they_were(shop):
    for kind in (VBPR, LightGCN, FREEDOM, LATTICE):
        model = kind.from_data(shop, embedding_dim=4)
        before = {name: x.clone() for name, x in model.state_dict().items()}
        check_model(model, shop, uses_graph=kind is not VBPR)
        # Stored item graphs make no difference: features are probed with graphs of their own.
        check_model(model, add_item_graphs(shop, 10), uses_graph=kind is not VBPR)
        assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
        assert model.training


def test_sides_without_parameters_are_no_cut(shop):
    model = FragileDirection.from_data(shop)
    graph = Graph.from_data(shop)
    assert not any(x.requires_grad for x in model(model.features(shop), graph).item.values())
    check_model(model, shop, uses_graph=False)


def test_a_rewired_graph_has_the_same_degrees_and_other_neighbours(shop):
    graph = Graph.from_data(shop).interactions
    other = _rewired(graph)
    assert torch.equal(other.degree(), graph.degree())
    assert torch.equal(other.t().degree(), graph.t().degree())
    assert float(other.to_dense().max()) == 1
    assert (other.to_dense() != graph.to_dense()).any(1).float().mean() > 0.9


def test_a_graph_without_another_of_the_same_degrees_is_refused():
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4)).t()
    data = build(torch.cat([pairs, pairs + torch.tensor([[0], [4]])], 1), torch.tensor([0] * 12 + [1] * 12), {})
    with pytest.raises(DataError, match="got 12 that cannot"):
        check_model(LightGCN.from_data(data, embedding_dim=4), data)
