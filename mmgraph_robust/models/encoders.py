"""What an encoder of items' rows may say about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LinearEncoder:
    """An encoder of rows (:meth:`~mmgraph_robust.models.Recommender.item_encoder`) that multiplies them with a matrix.

    Gradient steps on the rows are then products with the matrix, and need no automatic differentiation.

    Args:
        encode: From ``[n, feature_dim]`` rows to ``[n, dim]`` vectors: the rows times `matrix`, plus what does not
            depend on them.
        matrix: ``[feature_dim, dim]``.
    """

    encode: Callable[[Tensor], Tensor]
    matrix: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """The vectors."""
        return self.encode(rows)
