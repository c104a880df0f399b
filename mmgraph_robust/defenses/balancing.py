"""Modality balancing, the heart of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, Step, feature_gradients
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.utils import Categorical, Domain, Float, Int


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

    All pairs are distilled at once in full forward passes (so that an item moves its users and neighbours too): a step
    costs `steps` + 1 further passes, however many the pairs. In one pass an item can wear one perturbation, so of
    several triples with the same positive item the first drawn is taken.

    Args:
        sensitive: The modality to protect. :func:`mmgraph_robust.evaluation.find_sensitive` finds it on validation.
        weight: Weight :math:`\lambda`.
        pairs: Number of triples drawn from each batch (default: one for every positive item of the batch).
        eps: Half-width :math:`\epsilon` of the box.
        unit: ``"rms"``: `eps` in units of the features' root mean square, so that it means the same in every modality
            and data set; ``"absolute"``: in the features' own unit, as in the literature (where it is 1.0).
        steps: Number :math:`R` of sign gradient steps, each of size :math:`\epsilon / R`.
        other: How several other modalities' margins are combined.
        include_id: Whether the ``id`` channel counts among the others.
        every: Apply the term in every so many steps, with `every` times the weight: cheaper, the same on average.

    Source: the formulas above from independent descriptions of the method; the defaults are ours (the
    literature's literal form is ``weight=0.01, pairs=20, eps=1.0, unit="absolute", steps=10``).
    """

    search_space: ClassVar[Mapping[str, Domain]] = {
        "weight": Float(0.01, 10.0, log=True),
        "eps": Float(0.05, 1.0, log=True),
        "steps": Int(1, 10),
        "other": Categorical(["sum", "mean"]),
        "include_id": Categorical([False, True]),
    }

    def __init__(
        self,
        sensitive: str,
        *,
        weight: float = 1.0,
        pairs: int | None = None,
        eps: float = 0.25,
        unit: Literal["rms", "absolute"] = "rms",
        steps: int = 3,
        other: Literal["sum", "mean"] = "sum",
        include_id: bool = False,
        every: int = 1,
    ) -> None:
        name = type(self).__name__
        for key, number in (("weight", weight), ("eps", eps)):
            if not 0 <= number < float("inf"):
                raise ConfigError(f"'{name}' expects a finite {key} >= 0 (got {number})")
        for key, count in (("pairs", pairs), ("steps", steps), ("every", every)):
            if count is not None and count < 1:
                raise ConfigError(f"'{name}' expects {key} >= 1 (got {count})")
        if unit not in ("rms", "absolute"):
            raise ConfigError(f"'{name}' expects unit 'rms' or 'absolute' (got '{unit}')")
        if other not in ("sum", "mean"):
            raise ConfigError(f"'{name}' expects other 'sum' or 'mean' (got '{other}')")
        self.sensitive = sensitive
        self.weight = weight
        self.pairs = pairs
        self.eps = eps
        self.unit = unit
        self.steps = steps
        self.other = other
        self.include_id = include_id
        self.every = every

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Checks that there is a sensitive modality and another one, and fixes the box."""
        if not model.modalities:
            raise ConfigError(f"'{type(model).__name__}' reads no item features: there is nothing to balance")
        model.check_modality(self.sensitive)
        features = model.features(data)
        with torch.no_grad():
            channels = model(features, graph).channels
        if self.sensitive not in channels:
            raise ConfigError(
                f"'{type(model).__name__}' has no score channel '{self.sensitive}' (it has {list(channels)}): "
                "balancing needs one per modality"
            )
        self._others = [c for c in channels if c != self.sensitive and (self.include_id or c != "id")]
        if not self._others:
            raise DataError(
                f"balancing '{self.sensitive}' needs another modality to pay for it; '{type(model).__name__}' has the "
                f"channels {list(channels)} (set include_id=True to count the ids)"
            )
        x = features[self.sensitive]
        self._eps = self.eps * (float(x.square().mean().sqrt()) if self.unit == "rms" else 1.0)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The hinge, and the numbers behind it."""
        if step.index % self.every != 0:
            return step.loss.new_zeros(()), {}
        chosen = self._draw(step)
        user, item, negative = (t[chosen] for t in (step.batch.user, step.batch.positive, step.batch.negative))
        distilled = self._distil(step, item, negative)
        changed = self._encode(step, item, distilled)
        e_user = F.embedding(user, step.embeddings.user[self.sensitive])
        e_item = F.embedding(item, step.embeddings.item[self.sensitive])
        e_distilled = F.embedding(item, changed.item[self.sensitive])
        vulnerability = (e_user * (e_item - e_distilled)).sum(1)
        positive = step.embeddings.channel_scores(user, item)
        other = step.embeddings.channel_scores(user, negative)
        cover = sum_tensors([positive[c] - other[c] for c in self._others])
        if self.other == "mean":
            cover = cover / len(self._others)
        gap = (vulnerability - cover).relu()
        numbers = {
            "vulnerability": float(vulnerability.detach().mean()),
            "cover": float(cover.detach().mean()),
            "active_hinges": float((gap.detach() > 0).float().mean()),
        }
        return self.weight * self.every * gap.mean(), numbers

    def _draw(self, step: Step) -> Tensor:
        """Positions of triples in the batch, in random order, no two with the same positive item."""
        order = torch.randperm(len(step.batch), generator=step.generator).to(step.batch.user.device)
        items, place = torch.unique(step.batch.positive[order], return_inverse=True)
        first = torch.full_like(items, order.numel())
        first = first.scatter_reduce(0, place, torch.arange(order.numel(), device=order.device), "amin")
        return order[first.sort().values[: self.pairs]]

    def _distil(self, step: Step, item: Tensor, negative: Tensor) -> Tensor:
        """``[n, dim]`` features near those of `item` whose embedding is near that of `negative`."""
        x = step.features[self.sensitive].detach()[item]
        target = step.embeddings.item[self.sensitive].detach()[negative]
        z = x
        for _ in range(self.steps):
            z = z.detach().requires_grad_()
            embedded = F.embedding(item, self._encode(step, item, z).item[self.sensitive])
            distance = (embedded - target).square().mean()
            gradient = feature_gradients(distance, {self.sensitive: z}, step.model)[self.sensitive]
            z = z.detach() - (self._eps / self.steps) * gradient.sign()
            z = torch.minimum(torch.maximum(z, x - self._eps), x + self._eps)
        return z.detach()

    def _encode(self, step: Step, item: Tensor, rows: Tensor) -> Embeddings:
        features = step.features[self.sensitive].detach().index_copy(0, item, rows)
        return step.model(step.features | {self.sensitive: features}, step.graph)
