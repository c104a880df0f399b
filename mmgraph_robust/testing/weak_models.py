"""Models that are weak or deceptive by construction: an evaluation has to break them or to name the trick."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data import Graph
from mmgraph_robust.data.schema import build
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator

_USERS, _ITEMS, _DIM = 60, 50, 24


class WeakModel(Recommender):
    """Base of the weak models: a user's taste is a direction in the first columns of modalities, nothing is learned.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        seed: Seed of the tastes.
    """

    named_by: ClassVar[tuple[str, ...]] = ()
    """The flags that name the trick; none where the model is to be broken."""
    columns: ClassVar[int] = 4

    def __init__(self, num_users: int, num_items: int, feature_dims: dict[str, int], *, seed: int = 0) -> None:
        super().__init__(num_users, num_items, feature_dims, seed=seed)
        self.taste = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.empty(num_users, self.columns)) for m in self.modalities}
        )
        self.reset_parameters()

    def _reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for taste in self.taste.values():
                taste.copy_(torch.randn(taste.shape, generator=generator))

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """``[num_items, columns]`` what the model makes of the features of one modality."""
        return x[:, : self.columns]

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with one channel per modality."""
        return Embeddings(dict(self.taste), {m: self.read_item(m, features[m]) for m in self.modalities})


class FragileDirection(WeakModel):
    """Scores by a few columns that are small beside the others, so little of the budget turns them around."""

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """The small columns, enlarged."""
        return 50 * x[:, : self.columns]


class RoundedFeatures(WeakModel):
    """Hides its gradient by rounding the features."""

    named_by: ClassVar[tuple[str, ...]] = ("no_gradient", "zero_gradient", "gradient_mismatch", "black_box_stronger")

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """The columns, rounded: the gradient is zero wherever there is one."""
        return torch.round(20 * x[:, : self.columns]) / 20


class SaturatedSigmoid(WeakModel):
    """Hides its gradient in the flat parts of a sigmoid."""

    named_by: ClassVar[tuple[str, ...]] = ("no_gradient", "zero_gradient", "gradient_mismatch", "black_box_stronger")

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """The columns through a sigmoid so steep that float32 knows hardly any slope."""
        return torch.sigmoid(5e4 * x[:, : self.columns])


class NoisyFeatures(WeakModel):
    """Adds noise to the features at test time, so that single gradients point anywhere."""

    named_by: ClassVar[tuple[str, ...]] = ("stochastic",)

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """The columns with fresh noise."""
        part = x[:, : self.columns]
        return part + 0.5 * part.std() * torch.randn_like(part)


class ScaledGradient(WeakModel):
    """Scales the gradient of its last modality by 1e-8, so that a joint step sees the other one only."""

    named_by: ClassVar[tuple[str, ...]] = ("gradient_imbalance", "gradient_mismatch")

    def read_item(self, modality: str, x: Tensor) -> Tensor:
        """The columns; the value is as it should be, the gradient is not."""
        part = x[:, : self.columns]
        if modality != self.modalities[-1]:
            return part
        return part.detach() + 1e-8 * (part - part.detach())


class StaleCache(WeakModel):
    """Keeps the items' vectors of its first call, whatever features come later."""

    named_by: ClassVar[tuple[str, ...]] = ("stale_cache",)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings of the first features that the model ever saw."""
        if not hasattr(self, "kept"):
            self.kept = {m: super(StaleCache, self).read_item(m, features[m]).detach() for m in self.modalities}
        return Embeddings(dict(self.taste), self.kept)


WEAK_MODELS: dict[str, type[WeakModel]] = {
    kind.__name__: kind
    for kind in (FragileDirection, RoundedFeatures, SaturatedSigmoid, NoisyFeatures, ScaledGradient, StaleCache)
}
"""The weak models by name."""


def weak_model(name: str, seed: int = 0) -> tuple[WeakModel, HeteroData]:
    """A weak model, and data on which it is perfect as long as nobody attacks it, but for ``NoisyFeatures``, whose
    ranking changes with every draw of its noise.

    The three items that the model likes best for a user are her test items; her training item is the one it likes
    least. The columns that it reads are small beside the others, a change of a quarter of a row's norm overturns them.

    Args:
        name: One of :data:`WEAK_MODELS`.
        seed: Seed of tastes and features.

    Raises:
        ConfigError: If there is no such model.
    """
    if name not in WEAK_MODELS:
        raise ConfigError(unknown_name("weak model", name, WEAK_MODELS))
    kind = WEAK_MODELS[name]
    generator = child_generator(seed, "weak model")
    features = {}
    for modality in ("visual", "textual"):
        x = torch.randn(_ITEMS, _DIM, generator=generator)
        x[:, : kind.columns] *= 0.2
        features[modality] = x
    model = kind(_USERS, _ITEMS, dict.fromkeys(features, _DIM), seed=seed)
    empty = torch.zeros(2, 0, dtype=torch.long)
    bare = build(empty, empty[0], features, num_users=_USERS, num_items=_ITEMS)
    # A model that draws in its forward pass draws by the seed here, too.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        user, item = model(model.features(bare), Graph.from_data(bare)).concatenated()
    order = (user @ item.t()).argsort(dim=1, descending=True, stable=True)
    edges = [torch.stack([torch.arange(_USERS), order[:, column]]) for column in (0, 1, 2, _ITEMS - 1)]
    label = torch.tensor([2, 2, 2, 0]).repeat_interleave(_USERS)
    return model, build(torch.cat(edges, 1), label, features, num_users=_USERS, num_items=_ITEMS, name=name)
