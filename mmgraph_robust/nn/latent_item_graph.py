"""LATTICE's item graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.nn.init import reset_linear
from mmgraph_robust.nn.inputs import is_part_name
from mmgraph_robust.nn.linear import Linear
from mmgraph_robust.sparse import Adjacency, cosine_graph
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Checked


class LatentItemGraph(Checked, torch.nn.Module):
    r"""The latent item-item graph of `"Mining Latent Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_ (Zhang et al., MM 2021): nearest neighbours by cosine of learned projections,
    blended with those of the features as they came.

    .. math::
        Z_m = X_m W_m + b_m, \qquad S = (1 - \lambda)\, L\Big(\sum_m a_m\, \mathrm{top}_k \cos(Z_m, Z_m)\Big)
        + \lambda \sum_m a_m\, L\big(\mathrm{top}_k \cos(X_m, X_m)\big), \qquad a = \mathrm{softmax}(w)

    with :math:`L(A) = D^{-1/2} A D^{-1/2}` by row sums. The choice of neighbours is discrete and carries no gradient;
    the cosines on the chosen edges do, to :math:`W`, :math:`b`, :math:`w` and the features. Nothing of the size items
    by items is held: the neighbours are searched in blocks, and only their cosines are computed with gradient.

    Args:
        in_channels: Width of the features per modality.
        hidden_channels: Width of the projections.
        k: Neighbours per item, the item itself included.
        skip: The share :math:`\lambda` of the graph of the features as they came.

    Shapes:
        - **input:** ``{modality: [num_items, in_channels]}``, and what :meth:`original` made of it where that is to be
          kept fixed
        - **output:** an :class:`~mmgraph_robust.sparse.Adjacency` ``[num_items, num_items]``; an edge that several
          parts share is there once for each

    Source: the equations of the official code, with one deliberate difference: rows whose cosines sum to zero or less
    send and receive nothing, where the square root there gives NaN.
    """

    def __init__(
        self, in_channels: Mapping[str, int], hidden_channels: int = 64, k: int = 10, skip: float = 0.9
    ) -> None:
        super().__init__()
        if not in_channels:
            raise ConfigError(f"'{type(self).__name__}' expects in_channels of one or more modalities (got none)")
        self._check_counts(k=k, hidden_channels=hidden_channels)
        names = "with names that torch can call parts of a module by: no dots, nothing that a ModuleDict has itself"
        for name in in_channels:
            self._check(in_channels=(is_part_name(name), names, name))
        if not 0 <= skip <= 1:
            raise ConfigError(f"'{type(self).__name__}' expects skip from 0 to 1 (got {skip})")
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.k = k
        self.skip = skip
        self.lins = torch.nn.ModuleDict({m: Linear(d, hidden_channels) for m, d in in_channels.items()})
        weight = torch.empty(len(in_channels))
        # The share of a single modality is 1 whatever its weight.
        if len(in_channels) > 1:
            self.weight = torch.nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws new projections; all modalities count the same."""
        for lin in self.lins.values():
            reset_linear(cast(torch.nn.Linear, lin), generator)
        torch.nn.init.constant_(self.weight, 0.5)

    def original(self, x_dict: Features) -> dict[str, Adjacency]:
        """The normalised graph of the features as they came, per modality; gradients flow to the kept cosines."""
        return {name: cosine_graph(self._features(x_dict, name), self.k).normalize("gcn") for name in self.in_channels}

    def forward(self, x_dict: Features, original: Mapping[str, Adjacency] | None = None) -> Adjacency:
        """Builds the graph from the features of all modalities."""
        return Adjacency.sum(list(self.by_modality(x_dict, original).values()))

    def by_modality(
        self,
        x_dict: Features,
        original: Mapping[str, Adjacency] | None = None,
        search: Callable[[Tensor, int], Adjacency] = cosine_graph,
    ) -> dict[str, Adjacency]:
        r"""The graph in parts that sum to it, :math:`S^{(m)} = a_m \big[(1 - \lambda) D^{-1/2} A_m D^{-1/2} + \lambda
        S_m\big]` with the degrees :math:`D` of the joint learned graph :math:`\sum_m a_m A_m`; `search` finds the
        neighbours among the projections."""
        importance = dict(zip(self.in_channels, torch.softmax(self.weight, dim=0), strict=True))
        parts: dict[str, list[Adjacency]] = {name: [] for name in self.in_channels}
        if self.skip < 1:
            learned = []
            for name, share in importance.items():
                graph = search(self.lins[name](self._features(x_dict, name)), self.k)
                learned.append(graph.with_value(share * graph.values()))
            joint = Adjacency.sum(learned)
            # Back into the order of the parts.
            value = joint.normalize("gcn").values()[torch.argsort(joint.order)]
            sizes = [graph.num_edges for graph in learned]
            for name, graph, own in zip(self.in_channels, learned, value.split(sizes), strict=True):
                parts[name].append(graph.with_value((1 - self.skip) * own))
        if self.skip > 0:
            if original is None:
                original = self.original(x_dict)
            for name, share in importance.items():
                if name not in original:
                    raise DataError(f"'original' expects modality '{name}' (got {list(original)})")
                parts[name].append(original[name].with_value(self.skip * share * original[name].values()))
        return {name: Adjacency.sum(own) if len(own) > 1 else own[0] for name, own in parts.items()}

    def _features(self, x_dict: Features, name: str) -> Tensor:
        if name not in x_dict:
            raise DataError(f"'x_dict' expects modality '{name}' (got {list(x_dict)})")
        x = x_dict[name]
        num_items = x_dict.get(next(iter(self.in_channels)), x).size(0)
        check_tensor(f"x_dict['{name}']", x, (num_items, self.in_channels[name]), self.weight.device, self)
        return x

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, hidden_channels={self.hidden_channels}, k={self.k}, "
            f"skip={self.skip})"
        )
