"""The contract of a defense that is a model around a model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.sparse import Adjacency
from mmgraph_robust.typing import Features


class WrappedModel(Recommender):
    """A model around a model: a defense that acts on every forward pass, and not on how the loss is trained.

    It is a recommender like any other: trained or evaluated, attacked through its own gradient, saved with the model in
    it. A subclass says in :attr:`trains` when it comes, and takes what it needs of `data` into buffers.

    Args:
        model: The model. It is part of this one, not copied.
        data: The clean data; :obj:`None` where the buffers are read from a file afterwards.
        seed: Seed of its own randomness.
    """

    trains: ClassVar[bool] = False
    """Whether the model is to be trained inside the wrapper; otherwise it is wrapped once it is trained."""

    def __init__(self, model: Recommender, data: HeteroData | None, *, seed: int = 0) -> None:
        super().__init__(model.num_users, model.num_items, model.feature_dims, seed=seed)
        self.model = model
        self.knn_k = model.knn_k
        self.feature_path = model.feature_path  # type: ignore[misc]

    def _reset(self, generator: torch.Generator) -> None:
        self.model.reset_parameters()

    def item_graphs(self, features: Features, graph: Graph) -> dict[str, Adjacency]:
        """Those of the model."""
        return self.model.item_graphs(features, graph)

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """That of the model."""
        return self.model.training_graph(graph, previous, features, step, generator)

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """That of the model, which may read what its forward pass left in ``embeddings.extra``."""
        return self.model.loss(embeddings, batch, features)

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """That of the model."""
        return self.model.regularization(embeddings, batch)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # What was taken of the data has sizes of its own.
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != buffer.shape:
                setattr(self, name, stored.new_empty(stored.shape, device=buffer.device, dtype=buffer.dtype))
        super()._load_from_state_dict(state_dict, prefix, *rest)
