"""Embedding distillation: features near an item's own, whose embedding is near another item's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Step, feature_gradients
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import Embeddings, LinearEncoder, Recommender
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import matmul, unit_rows

# From features to the vectors of the distilled items, and to those that they are to come near.
_Vectors = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Distillation:
    r"""Projected sign gradient steps from the features of items :math:`i_n` towards the embeddings of :math:`j_n`:

    .. math::
        Z \leftarrow \mathrm{clip}_{[X - \epsilon, X + \epsilon]} \Big( Z - \frac{\epsilon}{R}\, \mathrm{sign}\,
        \nabla_Z\, \mathrm{mean}_n \Vert e^s_{i_n}(Z) - e^s_{j_n} \Vert_2^2 \Big), \qquad R \text{ times}

    All pairs are distilled in the same passes, so that in a graph model each one's change reaches the others, in the
    last pass at least.

    Args:
        modality: The modality :math:`s`, whose features move and whose channel is looked at.
        eps: Half-width :math:`\epsilon` of the box, in the unit of the features. Where it is large for so few steps,
            they go beyond the target; :obj:`None` is the limit that they miss: no box, and :math:`e^s_{j_n}` itself.
        steps: Number :math:`R` of steps.
        scope: ``"row"``: the rows of the items :math:`i_n` move; ``"matrix"``: whatever row has a gradient.
        target: ``"fixed"``: :math:`e^s_{j_n}` on the features of the training step; ``"moving"``: on :math:`Z`, at
            every step anew. A constant of the gradient in both.
        reach: ``"graph"``: steps follow the change through users and neighbours; ``"item"``: through the items' own
            rows alone (:meth:`~mmgraph_robust.models.Recommender.row_encoder`), for ``scope="row"`` and
            ``target="fixed"``. What comes out is in full in both.
        random_start: Whether :math:`Z` starts at a uniformly random point of the box.
        normalize: Whether embeddings are scaled to length one before they are compared.
    """

    modality: str
    eps: float | None
    steps: int
    scope: Literal["row", "matrix"] = "row"
    target: Literal["fixed", "moving"] = "fixed"
    reach: Literal["graph", "item"] = "graph"
    random_start: bool = False
    normalize: bool = False

    def __call__(self, step: Step, item: Tensor, negative: Tensor) -> Tensor:
        """``[n, dim]`` embeddings of the distilled items; their features are constants, the parameters are not.

        Args:
            step: The training step.
            item: ``[n]`` the items :math:`i_n`, no two the same.
            negative: ``[n]`` the items :math:`j_n`.
        """
        if self.eps is None:
            return F.embedding(negative, step.embeddings.item[self.modality])
        x = step.features[self.modality].detach()
        x = x if self.scope == "matrix" else x.index_select(0, item)
        vectors, encode = self._vectors(step, item, negative)
        matrix = self._matrix(encode)
        if matrix is not None:
            own, target = (step.embeddings.item[self.modality].detach()[ids] for ids in (item, negative))
            return encode(self._by_matrix(x, self.eps / self.steps, own, target, matrix))
        z, low, high = x, x - self.eps, x + self.eps
        if self.random_start:
            noise = torch.rand(x.shape, generator=step.generator, dtype=x.dtype).to(x.device)
            z = x + self.eps * (2 * noise - 1)
        with _frozen(step.model):
            for _ in range(self.steps):
                z = z.detach().requires_grad_()
                embedded, target = vectors(z)
                if self.normalize:
                    embedded, target = unit_rows(embedded), unit_rows(target)
                distance = (embedded - target).square().mean()
                gradient = feature_gradients(distance, {self.modality: z}, step.model)[self.modality]
                z = torch.sub(z.detach(), gradient.sign(), alpha=self.eps / self.steps).clamp_(low, high)
        return encode(z.detach())

    def _matrix(self, encode: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The matrix that a row is multiplied with, where that and the box are all that the steps depend on."""
        plain = (self.scope, self.target, self.random_start, self.normalize) == ("row", "fixed", False, False)
        return encode.matrix.detach() if plain and isinstance(encode, LinearEncoder) else None

    def _by_matrix(self, z: Tensor, size: float, embedded: Tensor, target: Tensor, matrix: Tensor) -> Tensor:
        """The same steps, in place, where the gradient is the distance times the matrix, but for a positive factor.

        They add up to the box's half-width, so that they leave it by rounding at most; and a step's embedding is the
        one before and what the step is projected to.
        """
        for left in reversed(range(self.steps)):
            sign = matmul(embedded - target, matrix.t()).sign_()
            z.sub_(sign, alpha=size)
            if left:
                embedded = torch.sub(embedded, matmul(sign, matrix), alpha=size)
        return z

    def _vectors(self, step: Step, item: Tensor, negative: Tensor) -> tuple[_Vectors, Callable[[Tensor], Tensor]]:
        """What steps look at, and the embeddings of the distilled items in full."""
        name = self.modality
        features = step.features | {name: step.features[name].detach()}
        fixed = step.embeddings.item[name].detach().index_select(0, negative)
        if self.scope == "row" and self.target == "fixed":
            encode = step.model.item_encoder(name, item, features, step.embeddings, step.graph)
            alone = encode
            if self.reach == "item":
                alone = row_encoder(step.model, name, item, features, step.embeddings.detach(), step.graph)
            return lambda z: (alone(z), fixed), encode

        def in_full(z: Tensor) -> tuple[Tensor, Tensor]:
            changed = z if self.scope == "matrix" else features[name].index_copy(0, item, z)
            vectors = step.model(features | {name: changed}, step.graph).item[name]
            return F.embedding(item, vectors), fixed if self.target == "fixed" else vectors.detach()[negative]

        return in_full, lambda z: in_full(z)[0]


def row_encoder(
    model: Recommender, name: str, item: Tensor, features: Features, embeddings: Embeddings, graph: Graph
) -> Callable[[Tensor], Tensor]:
    """The model's :meth:`~mmgraph_robust.models.Recommender.row_encoder`.

    Raises:
        ConfigError: If it has none.
    """
    found = model.row_encoder(name, item, features, embeddings, graph)
    if found is None:
        raise ConfigError(
            f"'{type(model).__name__}' has no encoder of the rows of '{name}' alone ('row_encoder'), which "
            "reach='item' follows: take reach='graph'"
        )
    return found


@contextmanager
def _frozen(model: Recommender) -> Iterator[None]:
    """Parameters are constants: gradients to features come without the cost of gradients to parameters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
