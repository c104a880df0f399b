"""Modality balancing, the heart of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, Step, check_reached
from mmgraph_robust.defenses.distillation import Distillation, row_encoder
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import Recommender
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.utils import Categorical, Domain, Float, Int, unit_rows


class ModalityBalancing(Defense):
    r"""`"Enhancing Adversarial Robustness of Multi-modal Recommendation via Modality Balancing"
    <https://doi.org/10.1145/3581783.3612337>`_ (Shang et al., MM 2023): the other modalities' margins are trained to
    cover what the sensitive one can lose.

    For triples :math:`(u, i, j)` of the batch, embedding distillation moves the features of :math:`i` in the sensitive
    modality :math:`s` by projected gradient steps inside a box of half-width :math:`\epsilon`, until its embedding is
    close to that of the negative :math:`j`. The score that the distilled item :math:`i'` loses is the vulnerability:

    .. math::
        i' = \arg\min_{\Vert x' - x_i \Vert_\infty \le \epsilon} \Vert e^s(x') - e^s_j \Vert_2^2, \qquad
        vul = s^s(u, i) - s^s(u, i'), \qquad
        \mathcal L = \mathcal L_{model}
        + \lambda\, \mathrm{mean}_n \max\Big(0,\ vul_n - \sum_{o \ne s} \big(s^o(u, i) - s^o(u, j)\big)\Big)

    All pairs are distilled at once (so that an item moves its users and neighbours too): a step costs `steps` + 1
    further passes, however many the pairs; of a model's :meth:`~mmgraph_robust.models.Recommender.item_encoder`, or
    full ones for ``scope="matrix"`` and ``target="moving"``. Where that encoder is a matrix
    (:class:`~mmgraph_robust.models.LinearEncoder`; VBPR), steps are products with it and need no pass. With
    ``reach="item"`` all but the last are those of rows alone, and users move in the last one only.

    Args:
        sensitive: The modality to protect; or several, or ``"all"`` that the model reads, as `schedule` says.
            :func:`mmgraph_robust.evaluation.find_sensitive` finds one on validation.
        schedule: With several modalities, ``"turn"``: each step that applies the term takes the next one;
            ``"together"``: every step takes all, and the mean of their terms.
        weight: Weight :math:`\lambda`.
        pairs: Number of triples drawn from each batch (default: one for every positive item of the batch; with
            ``duplicates="split"`` every triple).
        duplicates: In one pass an item can wear one perturbation. ``"first"``: of several triples with the same
            positive item the first drawn is taken. ``"split"``: the triples are distilled in sub-batches, the first of
            each item, then the second of each, ...; the cost is that of the most frequent item.
        eps: Half-width :math:`\epsilon` of the box; steps that are large (`eps` of 1 in three of them) go beyond the
            target. :obj:`None`: no box, where :math:`i'` is :math:`j` itself and the others have to cover the whole
            margin :math:`s^s(u, i) - s^s(u, j)`, whatever the steps.
        unit: ``"rms"``: `eps` in units of the features' root mean square, so that it means the same in every modality
            and data set; ``"absolute"``: in the features' own unit, as in the literature (where it is 1.0).
        steps: Number :math:`R` of sign gradient steps, each of size :math:`\epsilon / R`.
        scope: ``"row"``: the rows of the positive items move; ``"matrix"``: every row of the sensitive features whose
            gradient is not zero, in a graph model those of neighbours as well.
        target: Whether :math:`e^s_j` is that of the unchanged features, or recomputed on the changed ones at each step.
        reach: How far a step of distillation follows the change. ``"graph"``: wherever it goes; ``"item"``: through the
            item's own row, users and neighbours held where they are, which costs less in a graph model that has a
            :meth:`~mmgraph_robust.models.Recommender.row_encoder` (GRCN; in VBPR the two are the same). The distilled
            embedding itself is that of a full pass in both.
        random_start: Whether distillation starts at a random point of the box.
        normalize: Whether all vectors have length one in distillation and margins, so that margins are differences of
            cosines.
        other: How several other modalities' margins are combined.
        include_id: Whether the ``id`` channel counts among the others.
        detach_vulnerability: Whether the vulnerability is a constant, so that only the other margins are trained.
        detach_cover: Whether the other margins are constants, so that only the vulnerability is trained.
        warmup: Number of epochs at the start without the term.
        every: Apply the term in every so many steps, with `every` times the weight: cheaper, the same gradient on
            average.

    Source: the formulas above from independent descriptions of the method; the defaults are ours (the
    literature's literal form is ``weight=0.01, pairs=20, eps=1.0, unit="absolute", steps=10``).
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(0.01, 10.0, log=True),
        "eps": Float(0.05, 1.0, log=True),
        "steps": Int(1, 10),
        "scope": Categorical(["row", "matrix"]),
        "target": Categorical(["fixed", "moving"]),
        "other": Categorical(["sum", "mean"]),
        "include_id": Categorical([False, True]),
        "detach_vulnerability": Categorical([False, True]),
    }

    def __init__(
        self,
        sensitive: str | Sequence[str],
        *,
        schedule: Literal["turn", "together"] = "turn",
        weight: float = 1.0,
        pairs: int | None = None,
        duplicates: Literal["first", "split"] = "first",
        eps: float | None = 0.25,
        unit: Literal["rms", "absolute"] = "rms",
        steps: int = 3,
        scope: Literal["row", "matrix"] = "row",
        target: Literal["fixed", "moving"] = "fixed",
        reach: Literal["graph", "item"] = "graph",
        random_start: bool = False,
        normalize: bool = False,
        other: Literal["sum", "mean"] = "sum",
        include_id: bool = False,
        detach_vulnerability: bool = False,
        detach_cover: bool = False,
        warmup: int = 0,
        every: int = 1,
    ) -> None:
        self._check_sizes(weight=weight, **({} if eps is None else {"eps": eps}))
        self._check_counts(steps=steps, every=every, **({} if pairs is None else {"pairs": pairs}))
        self._check(warmup=(warmup >= 0, ">= 0", warmup))
        for key, choice, known in (
            ("schedule", schedule, ("turn", "together")), ("duplicates", duplicates, ("first", "split")),
            ("unit", unit, ("rms", "absolute")), ("scope", scope, ("row", "matrix")),
            ("target", target, ("fixed", "moving")), ("reach", reach, ("graph", "item")),
            ("other", other, ("sum", "mean")),
        ):  # fmt: skip
            self._check(**{key: (choice in known, f"'{known[0]}' or '{known[1]}'", choice)})
        if detach_vulnerability and detach_cover:
            raise ConfigError(
                f"'{type(self).__name__}' expects detach_vulnerability or detach_cover, not both: nothing would train"
            )
        if reach == "item" and (scope, target) != ("row", "fixed"):
            raise ConfigError(
                f"'{type(self).__name__}' expects scope='row' and target='fixed' with reach='item': other rows stand "
                f"still (got '{scope}' and '{target}')"
            )
        names = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
        once = 0 < len(names) == len(set(names))
        self._check(sensitive=(once, "to name one modality or several", list(names)))
        self.sensitive = sensitive if isinstance(sensitive, str) else names
        self.schedule = schedule
        self.weight = weight
        self.pairs = pairs
        self.duplicates = duplicates
        self.eps = eps
        self.unit = unit
        self.steps = steps
        self.scope: Literal["row", "matrix"] = scope
        self.target: Literal["fixed", "moving"] = target
        self.reach: Literal["graph", "item"] = reach
        self.random_start = random_start
        self.normalize = normalize
        self.other = other
        self.include_id = include_id
        self.detach_vulnerability = detach_vulnerability
        self.detach_cover = detach_cover
        self.warmup = warmup
        self.every = every

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Checks that there is a sensitive modality and another one, and fixes the box."""
        if not model.modalities:
            raise ConfigError(f"'{type(model).__name__}' reads no item features: there is nothing to balance")
        names = (self.sensitive,) if isinstance(self.sensitive, str) else self.sensitive
        if self.sensitive == "all":
            names = model.modalities
        for name in names:
            model.check_modality(name)
        features = model.features(data)
        with torch.no_grad():
            channels = model(features, graph).channels
        self._others = {name: self._others_of(name, channels, model) for name in names}
        self._distillation = {name: self._distillation_of(name, features[name]) for name in names}
        for name in names:
            check_reached(model, features, graph, [name], partial(self._looked_at, name=name))
        self._epoch = 0

    def _looked_at(self, step: Step, name: str) -> Tensor:
        if self.reach == "item":
            row_encoder(step.model, name, step.batch.positive, step.features, step.embeddings, step.graph)
        return step.embeddings.item[name].sum()

    def _others_of(self, name: str, channels: Sequence[str], model: Recommender) -> list[str]:
        if name not in channels:
            raise ConfigError(
                f"'{type(model).__name__}' has no score channel '{name}' (it has {list(channels)}): "
                "balancing needs one per modality"
            )
        others = [c for c in channels if c != name and (self.include_id or c != "id")]
        if not others:
            raise DataError(
                f"balancing '{name}' needs another modality to pay for it; '{type(model).__name__}' has the "
                f"channels {list(channels)} (set include_id=True to count the ids)"
            )
        return others

    def _distillation_of(self, name: str, x: Tensor) -> Distillation:
        size = float(x.square().mean().sqrt()) if self.unit == "rms" else 1.0
        eps = None if self.eps is None else self.eps * size
        return Distillation(
            name, eps, self.steps, self.scope, self.target, self.reach, self.random_start, self.normalize
        )

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Notes the epoch, for the warm-up."""
        self._epoch = epoch

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The hinge, and the numbers behind it."""
        if self._epoch < self.warmup or step.index % self.every != 0:
            return step.loss.new_zeros(()), {}
        names = list(self._others)
        if self.schedule == "turn":
            names = [names[step.index // self.every % len(names)]]
        gaps, vulnerabilities, covers = [], [], []
        groups = self._draw(step)
        for name in names:
            for chosen in groups:
                vulnerability, cover = self._margins(step, name, chosen)
                gaps.append((vulnerability - cover).relu())
                vulnerabilities.append(vulnerability.detach())
                covers.append(cover.detach())
        # Every modality has the same triples, so the mean over all is the mean of the modalities' terms.
        gap = torch.cat(gaps)
        numbers = {
            "vulnerability": float(torch.cat(vulnerabilities).mean()),
            "cover": float(torch.cat(covers).mean()),
            "active_hinges": float((gap.detach() > 0).float().mean()),
        }
        return self.weight * self.every * gap.mean(), numbers

    def _margins(self, step: Step, name: str, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """What the sensitive modality can lose and what the others are ahead by, ``[n]`` each."""
        user, item, negative = (t[chosen] for t in (step.batch.user, step.batch.positive, step.batch.negative))
        distilled = self._distillation[name](step, item, negative)
        users: dict[int, Tensor] = {}

        def score(channel: str, vectors: Tensor) -> Tensor:
            # A matrix that channels share is looked up once, since every look-up has a backward pass over all users.
            matrix = step.embeddings.user[channel]
            if id(matrix) not in users:
                users[id(matrix)] = self._rows(matrix, user)
            return (users[id(matrix)] * vectors).sum(1)

        def vectors(channel: str, ids: Tensor) -> Tensor:
            return self._rows(step.embeddings.item[channel], ids)

        distilled = unit_rows(distilled) if self.normalize else distilled
        vulnerability = score(name, vectors(name, item) - distilled)
        both = torch.cat([item, negative])
        halves = [vectors(c, both).view(2, item.numel(), -1) for c in self._others[name]]
        margins = [score(c, ahead - behind) for c, (ahead, behind) in zip(self._others[name], halves, strict=True)]
        cover = sum_tensors(margins)
        if self.other == "mean":
            cover = cover / len(margins)
        return (
            vulnerability.detach() if self.detach_vulnerability else vulnerability,
            cover.detach() if self.detach_cover else cover,
        )

    def _rows(self, matrix: Tensor, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, matrix)
        return unit_rows(rows) if self.normalize else rows

    def _draw(self, step: Step) -> list[Tensor]:
        """Positions of triples in the batch, in random order; in groups, each with no two of the same positive item."""
        order = torch.randperm(len(step.batch), generator=step.generator).to(step.batch.user.device)
        if self.duplicates == "split":
            return split_repeated(order[: self.pairs], step.batch.positive)
        item, place = step.batch.positive[order], torch.arange(order.numel(), device=order.device)
        first = place.new_full((step.model.num_items,), order.numel()).scatter_reduce(0, item, place, "amin")
        return [order[first[item] == place][: self.pairs]]


def split_repeated(order: Tensor, item: Tensor) -> list[Tensor]:
    """`order` in groups: the first position of every item, the second of every item that has two, and so on.

    Args:
        order: ``[n]`` positions.
        item: The item at each position.
    """
    # A stable sort puts the positions of an item side by side in their order.
    items, by_item = item[order].sort(stable=True)
    _, counts = torch.unique_consecutive(items, return_counts=True)
    start = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(order)
    rank[by_item] = torch.arange(order.numel(), device=order.device) - start
    return [order[rank == r] for r in range(int(counts.max()))]
