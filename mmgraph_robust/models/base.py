"""The contract of a recommender."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData
from typing_extensions import Self

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import Batch
from mmgraph_robust.data.schema import ITEM, USER
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.errors import ConfigError, DataError, unknown_name
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.nn.inputs import is_part_name
from mmgraph_robust.nn.losses import bpr_loss
from mmgraph_robust.sparse import Adjacency, SoftGraph
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Checked, Domain, child_generator


class Recommender(Checked, torch.nn.Module):
    """Base of all models: item features and a graph in, embeddings by channel out.

    A subclass writes :meth:`forward`, ``_reset(generator)``, which draws the initial parameters, and, where it has one,
    :meth:`regularization`. Its constructor ends with :meth:`reset_parameters`.
    :meth:`forward` is a pure function of features, graph and parameters: nothing is cached between calls, so whoever
    hands in other features gets other scores.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        feature_dims: Width of the features per modality.
        feature_scale: What the features of a modality are multiplied with before the model reads them (default: 1).
            Adam moves all weights equally fast, so a modality whose entries are large is learned faster than the others
            and outweighs them: its scale is a step size of its own. Budgets that are relative to the features stay what
            they are, and so do item graphs of cosines.
        trainable_features: Whether the model reads the features plus a trainable matrix that starts at zero, as the
            papers that train their features do; whatever perturbs the features acts on what the model reads.
        seed: Seed of the initial parameters.
    """

    feature_path: ClassVar[Literal["direct", "graph", "none"]] = "direct"
    """What carries item features to the score: the forward pass itself, an item graph only, or nothing.

    Reports and attacks read it, so that no model passes for robust because nothing can reach its score."""

    knn_k: int | None = None
    """Neighbours per item, itself included, in the item graphs that the model reads; :obj:`None` if it reads none."""

    search_space: ClassVar[Mapping[str, Domain]] = {}
    """Where a study searches the constructor's arguments, by name."""

    config: dict[str, Any]
    """The arguments that the model was built with, by name; enough to build it again."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls)
        # Copying and unpickling make an empty object first and fill it themselves.
        if args or kwargs:
            # Past torch's own __setattr__, which wants its __init__ to have run.
            given = _named_arguments(cls, model, args, kwargs)
            # Of their own: the caller may change his later.
            copies = {k: copy.copy(v) if isinstance(v, dict | list) else v for k, v in given.items()}
            object.__setattr__(model, "config", copies)
        return model

    def __init__(
        self,
        num_users: int,
        num_items: int,
        feature_dims: dict[str, int],
        *,
        feature_scale: Mapping[str, float] | None = None,
        trainable_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_users < 1 or num_items < 1:
            raise ConfigError(f"'{type(self).__name__}' expects users and items (got {num_users} and {num_items})")
        self.num_users = num_users
        self.num_items = num_items
        self.feature_dims = dict(feature_dims)
        for name in self.feature_dims:
            # The channel of the ids, and what torch refuses as the name of a part.
            usable = name != "id" and is_part_name(name)
            self._check(modalities=(usable, "with other names than this", name))
        self.feature_scale = dict(feature_scale or {})
        for name, factor in self.feature_scale.items():
            self.check_modality(name)
            # Written so that NaN fails, too.
            self._check(feature_scale=(0 < factor < math.inf, "above 0 and finite", self.feature_scale))
        self.seed = seed
        self.residual = torch.nn.ParameterDict(
            {m: torch.nn.Parameter(torch.zeros(num_items, dim)) for m, dim in self.feature_dims.items()}
            if trainable_features
            else {}
        )

    @classmethod
    def from_data(cls, data: HeteroData, *, modalities: Sequence[str] | None = None, **kwargs: Any) -> Self:
        """A model of the sizes of `data`.

        Args:
            data: The data set.
            modalities: The modalities to read (default: all).
            kwargs: The model's own arguments.

        Raises:
            ConfigError: If a modality or an argument is unknown.
        """
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        known = [p.name for p in parameters]
        for name in kwargs:
            if name not in known and all(p.kind is not p.VAR_KEYWORD for p in parameters):
                raise ConfigError(f"'{cls.__name__}': {unknown_name('argument', name, known)}")
        dims = {name: x.size(1) for name, x in features_of(data, modalities).items()}
        return cls(int(data[USER].num_nodes), int(data[ITEM].num_nodes), dims, **kwargs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model reads."""
        return tuple(self.feature_dims)

    def features(self, data: HeteroData) -> Features:
        """The features that the model reads, on its device.

        Raises:
            ConfigError: If `data` lacks a modality of the model.
            DataError: If sizes differ from those that the model was built for, or the type from float32 and that of its
                parameters.
        """
        features = features_of(data, self.modalities)
        for name, x in features.items():
            if tuple(x.shape) != (self.num_items, self.feature_dims[name]):
                raise DataError(
                    f"modality '{name}' expects shape [{self.num_items}, {self.feature_dims[name]}], the one that "
                    f"'{type(self).__name__}' was built for (got {list(x.shape)})"
                )
            if x.dtype not in (torch.float32, next((p.dtype for p in self.parameters()), torch.float32)):
                raise DataError(f"modality '{name}' expects a float32 tensor (got {x.dtype}): call .float()")
        return {name: x.to(self.device) for name, x in features.items()}

    @property
    def device(self) -> torch.device:
        """Where the parameters live; the CPU where there are none."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def reset_parameters(self) -> None:
        """Draws the initial parameters from :attr:`seed`: the same seed gives the same numbers."""
        device = self.device
        # Drawn on the CPU, so that they are the same numbers everywhere.
        self.cpu()
        self._reset(child_generator(self.seed, "init"))
        for residual in self.residual.values():
            torch.nn.init.zeros_(residual)
        self.to(device)

    def read(self, features: Features) -> Features:
        """The features of the model's modalities as it reads them: scaled, with their trainable part, where there is
        one."""
        scaled = {m: self._scaled(features[m], m) for m in self.modalities}
        return {m: x + self.residual[m] if m in self.residual else x for m, x in scaled.items()}

    def read_rows(self, features: Features, modality: str, rows: Tensor) -> Tensor:
        """Some rows of what :meth:`read` gives for one modality, for losses that need no others.

        Args:
            features: The features of all items.
            modality: Which of them.
            rows: ``[n]`` item ids.
        """
        return self._as_read(F.embedding(rows, features[modality]), modality, rows)

    def _as_read(self, x: Tensor, modality: str, rows: Tensor) -> Tensor:
        """The features `x` of the items `rows` as the model reads them."""
        x = self._scaled(x, modality)
        return x + F.embedding(rows, self.residual[modality]) if modality in self.residual else x

    def _scaled(self, x: Tensor, modality: str) -> Tensor:
        factor = self.feature_scale.get(modality, 1.0)
        return x if factor == 1.0 else x * factor

    def graph(self, data: HeteroData) -> Graph:
        """`data` compiled for this model, on its device, item graphs included.

        Item graphs come from `data` where it stores them, else from its features. Compile once for many forward passes;
        a graph without them makes every forward pass build them from the features that it is given.
        """
        graph = Graph.from_data(data).to(self.device)
        if self.knn_k is None:
            return graph
        with torch.no_grad():
            return graph.with_item_graphs(self.item_graphs(self.features(data), graph))

    def item_graphs(self, features: Features, graph: Graph) -> dict[str, Adjacency]:
        """The graph of similar items per modality, with cosines on its edges.

        Those of `graph` where it has them, else the nearest neighbours of `features`, which ``graph.search`` finds: the
        choice of neighbours is discrete, gradients to the features flow through the cosines. A model that wants every
        neighbour to count the same takes :meth:`~mmgraph_robust.sparse.Adjacency.unweighted` of a graph, and sums rows
        of values rather than counting edges (as ``normalize`` does): then it also reads a
        :class:`~mmgraph_robust.sparse.SoftGraph`, in which attacks hand it neighbours that it does not have, at weight
        0, to learn what they would do. A model that searches neighbours among vectors of its own does it by
        ``graph.search``, too, so that attacks see past that choice as well.

        Raises:
            ConfigError: If a stored graph has another number of neighbours than the model was built for.
        """
        result = {}
        for name in self.modalities:
            adjacency = graph.item_graphs.get(name)
            if adjacency is None:
                adjacency = graph.search(features[name], min(self.knn_k or 1, self.num_items))
            elif not isinstance(adjacency, SoftGraph):
                count = adjacency.degree()
                if not bool((count == min(self.knn_k or 1, self.num_items)).all()):
                    raise ConfigError(
                        f"'{type(self).__name__}' expects knn_k={self.knn_k} neighbours for every item in the stored "
                        f"graph of '{name}' (got {int(count.min())} to {int(count.max())}): store it with "
                        f"add_item_graphs(data, k={self.knn_k}), or build the model with that knn_k"
                    )
            result[name] = adjacency
        return result

    def linear_projection(self, modality: str) -> Tensor | None:
        """The matrix ``[dim, width]`` by which features enter the channel of `modality`, if they do nothing else.

        A model returns it if the item vectors of that channel are features times matrix plus what does not depend on
        the features, and no user vector nor another channel reads them (default: :obj:`None`). Certificates of
        late fusion rest on it.
        """
        return None

    def row_lipschitz(self, modality: str) -> float | None:
        """A bound on how far an item's vector in the channel of `modality` moves per unit that its own features move.

        Both in L2. A model returns it if no user vector, no other item's and no other channel reads those features
        (default: :obj:`None`); where items or users exchange messages there is none.
        """
        return None

    def item_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor]:
        """A function from other features of some items, ``[n, feature_dim]``, to the vectors ``[n, dim]`` that the
        items would have in the channel of `modality`; everything else is as in `features`.

        It gives what a full forward pass gives, in value and in every gradient, and that is what it is by default. A
        model returns a cheaper one where few rows can change what is asked for: one that follows the change through
        the items' neighbourhood and takes the rest from `embeddings`. One that multiplies rows with a matrix says so
        as a :class:`~mmgraph_robust.models.LinearEncoder`.

        Args:
            modality: The modality whose features change, and whose channel is asked for.
            items: ``[n]`` item ids, no two the same.
            features: The features of all items, as they are.
            embeddings: What the model computed on `features` in this training step, with gradients on.
            graph: The graph that it did so on.

        Raises:
            ConfigError: If the modality has no channel of its own.
        """
        if modality not in embeddings.item:
            raise ConfigError(
                f"'{type(self).__name__}' has no score channel '{modality}' (it has {list(embeddings.channels)})"
            )

        def encode(rows: Tensor) -> Tensor:
            changed = features[modality].index_copy(0, items, rows)
            return F.embedding(items, self(features | {modality: changed}, graph).item[modality])

        return encode

    def row_encoder(
        self, modality: str, items: Tensor, features: Features, embeddings: Embeddings, graph: Graph
    ) -> Callable[[Tensor], Tensor] | None:
        """:meth:`item_encoder` with users and other items held where they are: each vector follows its own row alone.

        For the items' own features it gives their own vectors. Otherwise it is no full pass, but its gradient points
        nearly the same way, for far less, where an item's own row matters most to its vector; only such a model returns
        one (default: :obj:`None`).

        Args:
            modality: The modality whose features change, and whose channel is asked for.
            items: ``[n]`` item ids, no two the same.
            features: The features of all items, as they are.
            embeddings: What the model computed on `features` in this training step with gradients on, detached or not.
            graph: The graph that it did so on.
        """
        return None

    def training_graph(
        self, graph: Graph, previous: Graph | None, features: Features, step: int, generator: torch.Generator
    ) -> Graph:
        """The graph of one training step (default: the whole one): pruned, with learned parts kept for some steps, or
        with a seed for what the forward pass leaves to chance (:meth:`~mmgraph_robust.data.Graph.with_seed`).

        Args:
            graph: The whole graph.
            previous: What this method returned for the previous step, :obj:`None` at the first of an epoch.
            features: The clean features. What a graph keeps of them (its ``latent_graphs``) would hide those of a
                defense that changes features, so :func:`~mmgraph_robust.training.fit` refuses such a pair.
            step: Number of the step within its epoch.
            generator: Randomness of the epoch, on the CPU.
        """
        return graph

    def _reset(self, generator: torch.Generator) -> None:
        raise NotImplementedError

    def forward(self, features: Features, graph: Graph) -> Embeddings:
        """Embeddings of all users and items."""
        raise NotImplementedError

    def regularization(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """What the paper adds to its ranking loss, weight included (default: nothing)."""
        return next(iter(embeddings.user.values())).new_zeros(())

    def loss(self, embeddings: Embeddings, batch: Batch, features: Features) -> Tensor:
        """The training loss of one batch: BPR on the scores plus :meth:`regularization`."""
        positive = embeddings.scores(batch.user, batch.positive)
        negative = embeddings.scores(batch.user, batch.negative)
        return bpr_loss(positive, negative) + self.regularization(embeddings, batch)

    def _refuse_scale(self, names: Iterable[str]) -> None:
        """Raises ConfigError for a scale of features that are brought to length one before anything is learned."""
        for name in names:
            if name in self.feature_scale and name not in self.residual:
                raise ConfigError(
                    f"'{type(self).__name__}' brings the features of '{name}' to length one first: their scale is "
                    "nothing to it; leave it out of 'feature_scale'"
                )

    def _check_modalities(self) -> None:
        if not self.feature_dims:
            raise DataError(
                f"'{type(self).__name__}' needs at least one modality of item features (got none): "
                "set data['item'].x_<modality>, or use 'LightGCN'"
            )

    def check_modality(self, name: str) -> None:
        """Raises ConfigError if the model does not read the modality `name`."""
        if name not in self.feature_dims:
            raise ConfigError(unknown_name("modality", name, self.feature_dims))


def check_recommender(model: object) -> None:
    """Sees that what is trained, evaluated or attacked keeps the contract of a model.

    Raises:
        ConfigError: If it is no :class:`Recommender`.
    """
    if not isinstance(model, Recommender):
        raise ConfigError(
            "expects a model whose class is a subclass of 'mmgraph_robust.models.Recommender' "
            f"(got a '{type(model).__name__}'): let it inherit from that"
        )


def _named_arguments(cls: type, model: Recommender, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor by name; what it takes as ``*args, **kwargs`` is its base's to name."""
    result: dict[str, Any] = {}
    for kind in cls.__mro__:
        if "__init__" not in vars(kind):
            continue
        signature = inspect.signature(vars(kind)["__init__"])
        # Partial, since a subclass may name what it hands on; what nobody names the constructor itself asks for.
        bound = signature.bind_partial(model, *args, **kwargs)
        bound.apply_defaults()
        given = dict(list(bound.arguments.items())[1:])
        parameters = list(signature.parameters.values())
        rest = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        args, kwargs = (), {}
        for parameter in rest:
            if parameter.kind is parameter.VAR_POSITIONAL:
                args = given.pop(parameter.name, ())
            else:
                kwargs = given.pop(parameter.name, {})
        result = given | result  # what a subclass names is hers, also where its base has a default for it
        if not rest:
            break
    return result
