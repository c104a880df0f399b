"""Knowledge of teachers that see one modality each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.sampling import TripleLoader
from mmgraph_robust.defenses.base import Defense, Step, defended_modalities
from mmgraph_robust.defenses.wrapped import WrappedModel
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.models import Recommender
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.nn import bpr_loss
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import Domain, Float, child_generator


class CKD(Defense):
    r"""`"Modality-Balanced Learning for Multimedia Recommendation" <https://arxiv.org/abs/2408.06360>`_ (Zhang et al.,
    MM 2024): counterfactual knowledge distillation; each modality's channel learns from a teacher that has seen nothing
    but this modality, the more so the less of the modality the model makes use of.

    With the margins :math:`s^m_{uij} = s^m(u, i) - s^m(u, j)` of the model in the channel of modality :math:`m`, and
    :math:`t^m_{uij}` of its teacher, :math:`B` the triples of the batch, :math:`R` random ones, :math:`H` the binary
    cross-entropy and :math:`M` the set of modalities,

    .. math::
        \mathcal L = \mathcal L_{model} + \lambda \sum_{m \in M} r_m \ell_m, \qquad
        \ell_m = \mathrm{mean}_B \max(0,\ t^m_{uij} - s^m_{uij})
        + \beta\, \mathrm{mean}_R\, H\big(\sigma(t^m_{uij} / \tau),\ \sigma(s^m_{uij} / \tau)\big)

    .. math::
        r_m = \frac{|M|}{|M| - 1} \Big(1 - \frac{c_m}{\sum_o c_o}\Big), \qquad
        c_m = \mathrm{clip}\Big(\frac{\Delta_M - \Delta_{M \setminus m}}{\Delta_m},\ 10^{-8},\ 10\Big), \qquad
        \Delta_S = \mathcal L_{BPR}(\emptyset) - \mathcal L_{BPR}(S)

    :math:`\Delta_S` is what the modalities :math:`S` do for the ranking of the batch in a world where the others tell
    no two items apart: there only their channels, and those that belong to no modality (ids), add to the margin. So
    :math:`c_m` compares what :math:`m` adds to the others with what it does alone. All :math:`c_m` and :math:`r_m` are
    constants in the gradient.

    A teacher is a model of the same class with the same arguments that reads the one modality: what
    :func:`~mmgraph_robust.training.fit` makes of it in `teacher_epochs` epochs with the model's own seed. All of them
    are trained before the first step, so the first epoch takes longer, and frozen.

    Args:
        weight: Weight :math:`\lambda`.
        soft_weight: Weight :math:`\beta` of the cross-entropy.
        temperature: Temperature :math:`\tau`.
        triples: Number of triples in :math:`R`, drawn anew in each step, all users and items alike.
        teacher_epochs: Number of epochs that a teacher is trained for; no validation ends it earlier.
        teacher_batch_size: Triples per step of its training.
        teacher_learning_rate: Adam's step size there.

    Source: an independent description of the method gives :math:`\ell_m` and :math:`c_m`, for two modalities
    :math:`r_m = 1 - (c_m - c_o) / (c_m + c_o)`, and :math:`\lambda, \beta, \tau`, the clipping and the number of random
    triples. Ours, where it is silent or narrower: any number of modalities (the formula of :math:`r_m` above is that of
    two, its sum is always :math:`|M|`, and with one modality :math:`r_m = 1`); the hinge over the batch's triples,
    whose items have an order; means over triples; both margins in the same channel, without ids; :math:`\Delta` told by
    BPR, whatever the model's own loss is; the defaults of the teachers' training.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(1e-3, 1.0, log=True),
        "soft_weight": Float(0.5, 50.0, log=True),
        "temperature": Float(0.05, 1.0, log=True),
    }

    def __init__(
        self,
        *,
        weight: float = 0.01,
        soft_weight: float = 5.0,
        temperature: float = 0.1,
        triples: int = 5000,
        teacher_epochs: int = 50,
        teacher_batch_size: int = 2048,
        teacher_learning_rate: float = 1e-3,
    ) -> None:
        self._check_sizes(weight=weight, soft_weight=soft_weight)
        self._check_rates(temperature=temperature, teacher_learning_rate=teacher_learning_rate)
        self._check_counts(triples=triples, teacher_epochs=teacher_epochs, teacher_batch_size=teacher_batch_size)
        self.weight = weight
        self.soft_weight = soft_weight
        self.temperature = temperature
        self.triples = triples
        self.teacher_epochs = teacher_epochs
        self.teacher_batch_size = teacher_batch_size
        self.teacher_learning_rate = teacher_learning_rate

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Checks that modalities have channels to learn in, and builds their teachers, which it does not train yet."""
        self._names = defended_modalities(model, None)
        if isinstance(model, WrappedModel):
            raise ConfigError(
                f"'{type(self).__name__}' builds teachers from the model's own arguments, and '{type(model).__name__}' "
                f"has another model among them: train '{type(model.model).__name__}' with it, without the wrapper"
            )
        self._features = model.features(data)
        self._graph = graph
        with torch.no_grad():
            channels = model(self._features, graph).channels
        missing = [m for m in self._names if m not in channels]
        if missing:
            raise ConfigError(
                f"'{type(self).__name__}' distils into one score channel per modality; '{type(model).__name__}' has "
                f"{list(channels)} and none for {missing}"
            )
        self._teachers = {m: self._teacher_of(model, m) for m in self._names}
        self._user: dict[str, Tensor] = {}
        self._item: dict[str, Tensor] = {}

    def _teacher_of(self, model: Recommender, modality: str) -> Recommender:
        arguments = {name: _alone(value, modality, model.modalities) for name, value in model.config.items()}
        teacher = type(model)(**arguments).to(next(model.parameters()))
        channels: tuple[str, ...] = ()
        if teacher.modalities == (modality,):
            with torch.no_grad():
                channels = teacher({modality: self._features[modality]}, self._graph).channels
        if modality not in channels:
            raise ConfigError(
                f"'{type(self).__name__}' builds teachers of one modality from the model's own arguments; with "
                f"'{modality}' alone in its feature_dims '{type(model).__name__}' reads {list(teacher.modalities)} and "
                f"has the channels {list(channels)}, where it should have that of '{modality}'"
            )
        return teacher

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Trains the teachers, unless there are trained ones."""
        if not self._user:
            for name, teacher in self._teachers.items():
                self._user[name], self._item[name] = self._train(teacher, name)
            self._teachers = {}

    def _train(self, teacher: Recommender, modality: str) -> tuple[Tensor, Tensor]:
        """The teacher's users and items in the modality's channel, once it is trained."""
        features: Features = {modality: self._features[modality]}
        loader = TripleLoader(self._graph, self.teacher_batch_size)
        optimizer = torch.optim.Adam(teacher.parameters(), lr=self.teacher_learning_rate)
        teacher.train()
        for epoch in range(self.teacher_epochs):
            generator = child_generator(teacher.seed, "graph", epoch)
            current: Graph | None = None
            for index, batch in enumerate(loader.epoch(child_generator(teacher.seed, "sampling", epoch))):
                current = teacher.training_graph(self._graph, current, features, index, generator)
                loss = teacher.loss(teacher(features, current), batch, features)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        teacher.eval()
        with torch.no_grad():
            embeddings = teacher(features, self._graph)
        user, item = embeddings.user[modality].detach(), embeddings.item[modality].detach()
        if not bool(torch.isfinite(user).all() and torch.isfinite(item).all()):
            raise NonFiniteError(
                f"the teacher of '{modality}' has vectors that are not finite after {self.teacher_epochs} epochs: "
                f"lower teacher_learning_rate (is {self.teacher_learning_rate})"
            )
        return user, item

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The distillation, and how much each modality takes part in it."""
        size, ids = len(step.batch), self._triples(step)
        user, item = step.embeddings.user, step.embeddings.item
        students, teachers = _margins(user, item, self._names, ids), _margins(self._user, self._item, self._names, ids)
        with torch.no_grad():
            others = [c for c in user if c not in self._names]
            ranked = _margins(user, item, others, step.batch.ids) | {m: x[:size] for m, x in students.items()}
            weights = counterfactual_weights(ranked, self._names)
        terms: list[Tensor] = []
        numbers: dict[str, float] = {}
        for name, weight in zip(self._names, weights, strict=True):
            student, teacher = students[name], teachers[name]
            hinge = (teacher[:size] - student[:size]).relu().mean()
            soft = F.binary_cross_entropy_with_logits(
                student[size:] / self.temperature, torch.sigmoid(teacher[size:] / self.temperature)
            )
            terms.append(weight * (hinge + self.soft_weight * soft))
            numbers[f"weight_{name}"] = float(weight)
        total = sum_tensors(terms)
        return self.weight * total, {"distillation": float(total.detach())} | numbers

    def _triples(self, step: Step) -> list[Tensor]:
        """Users, items and other items: those of the batch, and after them the random ones."""
        sizes = (step.graph.num_users, step.graph.num_items, step.graph.num_items)
        drawn = [torch.randint(size, (self.triples,), generator=step.generator) for size in sizes]
        return [torch.cat([known, new.to(known.device)]) for known, new in zip(step.batch.ids, drawn, strict=True)]

    def state(self) -> dict[str, object]:
        """The vectors of the trained teachers."""
        parts = {"user": self._user, "item": self._item}
        return {side: {m: x.cpu() for m, x in part.items()} for side, part in parts.items()}

    def load_state(self, state: dict[str, object]) -> None:
        """Takes up the teachers."""
        parts = cast(dict[str, dict[str, Tensor]], state)
        self._user, self._item = (
            {m: x.to(self._graph.device) for m, x in parts[side].items()} for side in ("user", "item")
        )
        if self._user:
            self._teachers = {}


def counterfactual_weights(margins: Mapping[str, Tensor], modalities: tuple[str, ...]) -> Tensor:
    """``[num_modalities]`` the weights :math:`r_m` of :class:`CKD`.

    Args:
        margins: ``[n]`` margins of positive over negative items, per channel.
        modalities: The channels that belong to modalities.
    """
    rest = [x for c, x in margins.items() if c not in modalities] or [torch.zeros_like(margins[modalities[0]])]

    def effect(names: list[str]) -> Tensor:
        without = sum_tensors(rest)
        kept = sum_tensors([without, *(margins[m] for m in names)])
        return bpr_loss(without, torch.zeros_like(without)) - bpr_loss(kept, torch.zeros_like(kept))

    joint, count = effect(list(modalities)), len(modalities)
    if count == 1:
        return torch.ones_like(joint)[None]
    uses = []
    for name in modalities:
        use = (joint - effect([m for m in modalities if m != name])) / effect([name])
        # A modality that does nothing alone or in company (0 / 0) does in company what it does alone.
        uses.append(use.nan_to_num(nan=1.0).clamp(1e-8, 10.0))
    use = torch.stack(uses)
    return count / (count - 1) * (1 - use / use.sum())


def _margins(
    user: Mapping[str, Tensor], item: Mapping[str, Tensor], channels: Sequence[str], ids: Sequence[Tensor]
) -> dict[str, Tensor]:
    """``[n]`` per channel: by how much more each user's first item scores than the second."""
    who, first, second = ids
    pairs = torch.cat([first, second])
    users: dict[int, Tensor] = {}
    result = {}
    for name in channels:
        # Every look-up has a backward pass over the whole matrix, so a matrix that channels share is looked up once.
        matrix = user[name]
        if id(matrix) not in users:
            users[id(matrix)] = F.embedding(who, matrix)
        better, worse = F.embedding(pairs, item[name]).chunk(2)
        result[name] = (users[id(matrix)] * (better - worse)).sum(1)
    return result


def _alone(argument: Any, modality: str, modalities: tuple[str, ...]) -> Any:
    """An argument of a model without what it says of other modalities."""
    if isinstance(argument, Mapping) and all(m in modalities for m in argument):
        return {m: value for m, value in argument.items() if m == modality}
    if isinstance(argument, (list, tuple)) and all(m in modalities for m in argument):
        return [m for m in argument if m == modality]
    return argument
