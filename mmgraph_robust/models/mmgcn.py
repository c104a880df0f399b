"""MMGCN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings, sum_tensors
from mmgraph_robust.nn import Linear, MMGCNConv, batch_mean_squares
from mmgraph_robust.nn.init import reset_linear, xavier_normal
from mmgraph_robust.sparse.slices import cut_rows
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Categorical, Domain, Float, Int, unit_rows


class MMGCN(Recommender):
    r"""`"MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video"
    <https://doi.org/10.1145/3343031.3351034>`_ (Wei et al., MM 2019): one graph network per modality on the user-item
    graph, users with a learned preference per modality, ids shared by all; the mean over modalities ranks.

    .. math::
        X_m^{(0)} = \mathrm{rownorm}([P_m ; F_m]), \qquad X_m^{(l+1)} = \mathrm{MMGCNConv}_l(X_m^{(l)}, A, E), \qquad
        s(u, i) = \Big\langle \frac{1}{M} \sum_m x_u^m,\ \frac{1}{M} \sum_m x_i^m \Big\rangle

    The channel of modality :math:`m` pairs the fused user with :math:`x_i^m / M`. There is no ``id`` channel: ids act
    inside every branch.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        embedding_dim: Width of the ids and of every layer's output.
        num_layers: Number of layers.
        combine: How a layer puts neighbourhood and node together; ``"add"`` is the paper's element-wise form.
        hidden_dim: Width that projected modalities enter the first layer with.
        project: Modalities that get a linear map to `hidden_dim` first (default: those wider than it; under
            ``"mmrec"`` only ``visual``, as there).
        reg: Weight of the mean squares of the batch's ids and of the preferences.
        variant: ``"paper"``, or ``"mmrec"`` for the behaviour that the published tables rest on: preferences and ids
            are random numbers that never train (buffers here, so the regulariser is a constant), and `combine` and
            `num_layers` are ``"concat"`` and 3, whatever its flags say.
        feature_scale: See :class:`~mmgraph_robust.models.Recommender`; of modalities that are projected.
        trainable_features: See :class:`~mmgraph_robust.models.Recommender`.
        seed: Seed of the initial parameters.

    Source: the equations of the official code and its initialisation: Xavier-normal but for :math:`G_2, G_3, \dots` and
    the linear maps of features, which start from torch's default.

    Deliberate differences of ``"paper"``: preferences and ids are trained (there they are plain tensors that never
    move), `combine` and `num_layers` are honoured (there a string that is always true fixes the one, three layers the
    other), and `project` goes by width. Of both variants: all preferences enter the regulariser (there those of one
    modality), the logarithm of the loss cannot overflow, and scores are computed anew after every step (there they are
    those of the last batch before its step).
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "embedding_dim": Categorical([32, 64, 128]),
        "num_layers": Int(1, 3),
        "combine": Categorical(["concat", "add"]),
        "hidden_dim": Categorical([128, 256, 512]),
        "reg": Float(1e-7, 1e-2, log=True),
    }

    id: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        combine: Literal["concat", "add"] = "concat",
        hidden_dim: int = 256,
        project: Sequence[str] | None = None,
        reg: float = 1e-5,
        variant: Literal["paper", "mmrec"] = "paper",
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_users, num_items, feature_dims, feature_scale=feature_scale, trainable_features=trainable_features,
            seed=seed,
        )  # fmt: skip
        self._check_counts(embedding_dim=embedding_dim, num_layers=num_layers, hidden_dim=hidden_dim)
        self._check_sizes(reg=reg)
        self._check(variant=(variant in ("paper", "mmrec"), "'paper' or 'mmrec'", variant))
        if variant == "mmrec" and (combine, num_layers) != ("concat", 3):
            raise ConfigError(
                f"'MMGCN' expects combine 'concat' and num_layers 3 for variant 'mmrec', which knows no others "
                f"(got '{combine}' and {num_layers})"
            )
        self._check_modalities()
        for name in project or ():
            self.check_modality(name)
        if project is None:
            wide = [name for name, dim in self.feature_dims.items() if dim > hidden_dim]
            project = wide if variant == "paper" else [name for name in self.modalities if name == "visual"]
        self._refuse_scale(name for name in self.modalities if name not in project)
        self.reg = reg
        self.variant = variant
        self._table("id", num_users + num_items, embedding_dim)
        self.projection = torch.nn.ModuleDict()
        self.convs = torch.nn.ModuleDict()
        for name, dim in self.feature_dims.items():
            width = dim
            if name in project:
                width = hidden_dim
                self.projection[name] = Linear(dim, hidden_dim)
            self._table(f"preference_{name}", num_users, width)
            widths = [width] + [embedding_dim] * (num_layers - 1)
            self.convs[name] = torch.nn.ModuleList([MMGCNConv(w, embedding_dim, combine) for w in widths])
        self.reset_parameters()

    @property
    def preference(self) -> dict[str, Tensor]:
        """``[num_users, dim]`` what users prefer, per modality."""
        return {name: getattr(self, f"preference_{name}") for name in self.modalities}

    def _table(self, name: str, rows: int, width: int) -> None:
        """A matrix that is trained, or, as in the toolbox, stays as it was drawn."""
        if self.variant == "paper":
            self.register_parameter(name, torch.nn.Parameter(torch.empty(rows, width)))
        else:
            self.register_buffer(name, torch.empty(rows, width))

    def _reset(self, generator: torch.Generator) -> None:
        xavier_normal(self.id, generator)
        for name in self.modalities:
            xavier_normal(self.preference[name], generator)
            if name in self.projection:
                reset_linear(cast(torch.nn.Linear, self.projection[name]), generator)
            for index, conv in enumerate(cast(torch.nn.ModuleList, self.convs[name])):
                cast(MMGCNConv, conv).reset_parameters(generator)
                if index == 0:
                    xavier_normal(cast(MMGCNConv, conv).lin_out.weight, generator)

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings with one channel per modality."""
        features, preference = self.read(features), self.preference
        branches: dict[str, Tensor] = {}
        inner: dict[str, Tensor] = {}
        for name in self.modalities:
            x = unit_rows(torch.cat([preference[name], self._project(features[name], name)]))
            for layer, conv in enumerate(self._layers(name)):
                message, own = conv.message(x, graph.bipartite_mean), conv.own(x, self.id)
                if torch.is_grad_enabled():  # else nobody keeps the layers, so they are not kept here either
                    parts = {"input": x, "message": message, "own": own}
                    inner |= {f"{name}_{layer}_{part}": value for part, value in parts.items()}
                x = conv.put_together(message, own)
            branches[name] = x / len(self.modalities)
        user = sum_tensors([x[: self.num_users] for x in branches.values()])
        item = {name: x[self.num_users :] for name, x in branches.items()}
        return Embeddings(dict.fromkeys(branches, user), item, inner)

    def _project(self, x: Tensor, name: str) -> Tensor:
        result: Tensor = self.projection[name](x) if name in self.projection else x
        return result

    def _layers(self, name: str) -> list[MMGCNConv]:
        return [cast(MMGCNConv, conv) for conv in cast(torch.nn.ModuleList, self.convs[name])]

    def item_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor]:
        """Of up to three layers: the items and their users, along the edges between them.

        The change reaches the users' vectors of the first layer and other items' of the second; these would come back
        in the fourth. Messages are linear in what is sent, so the change of a message is the message of the change.
        """
        layers = self._layers(modality)
        if len(layers) > 3 or f"{modality}_0_input" not in embeddings.extra:
            return super().item_encoder(modality, items, features, embeddings, graph)
        # Cutting sorts nothing where the rows are in order.
        nodes, order = (items + self.num_users).sort()
        back = order.argsort()
        to_item, users = cut_rows(graph.bipartite_mean, nodes)
        # The pattern is symmetric, so the same cut of the transpose has the weights of the other direction.
        to_user = cut_rows(graph.bipartite_mean.t(), nodes)[0].t()

        def parts(what: str, ids: Tensor, start: int, stop: int) -> dict[int, Tensor]:
            names = {layer: f"{modality}_{layer}_{what}" for layer in range(start, stop)}
            return {layer: embeddings.extra[name].index_select(0, ids) for layer, name in names.items()}

        # As it was before the change; looked up once for all calls.
        depth = len(layers)
        item_input, item_message = parts("input", nodes, 0, depth - 1), parts("message", nodes, 0, depth)
        user_input, user_message = parts("input", users, 1, depth), parts("message", users, 0, depth - 1)
        own_users = embeddings.extra[f"{modality}_0_own"].index_select(0, users)
        id_items, id_users = self.id.index_select(0, nodes), self.id.index_select(0, users)

        def encode(rows: Tensor) -> Tensor:
            x = self._as_read(rows, modality, items).index_select(0, order)
            item, user = unit_rows(self._project(x, modality)), own_users
            for layer, conv in enumerate(layers):
                own, message = conv.own(item, id_items), item_message[layer]
                if layer > 0:
                    message = message + conv.message(user - user_input[layer], to_item)
                moved = conv.put_together(message, own)
                if layer < depth - 1:
                    own = own_users if layer == 0 else conv.own(user, id_users)
                    message = user_message[layer] + conv.message(item - item_input[layer], to_user)
                    user = conv.put_together(message, own)
                item = moved
            return item.index_select(0, back) / len(self.modalities)

        return encode

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Mean squares of the batch's ids and of all preferences."""
        ids = batch_mean_squares(self.id, self.num_users, batch.ids)
        preferences = sum_tensors([p.square().mean() for p in self.preference.values()])
        return self.reg * (ids + preferences)
