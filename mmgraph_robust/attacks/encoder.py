"""Attacks on what features are made from: pixels, token embeddings, any content that an encoder reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from mmgraph_robust.attacks.item_graph import GraphProblem
from mmgraph_robust.attacks.objectives import check_objective
from mmgraph_robust.attacks.pgd import step_share
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.threat import ThreatModel
from mmgraph_robust.attacks.victim import frozen
from mmgraph_robust.data.item_graphs import with_item_graphs
from mmgraph_robust.data.schema import features as features_of
from mmgraph_robust.data.schema import with_features
from mmgraph_robust.errors import BudgetError, ConfigError, DataError, NonFiniteError
from mmgraph_robust.models import Recommender
from mmgraph_robust.utils import Checked, chunks

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class ContentResult:
    """What an attack through an encoder did.

    Attributes:
        data: The data set with the features of the perturbed content.
        content: ``[num_items, ...]`` the perturbed content.
        clean_objective: The attacker's objective on the encoded clean content.
        objective: The same on the features of `data`.
        flags: What a reader must know before trusting the outcome, by name.
        seconds: How long it took.
    """

    data: HeteroData
    content: Tensor
    clean_objective: float
    objective: float
    flags: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class ContentPGD(Checked):
    r"""Projected gradient ascent on the content that an encoder turns into features, in the content's own unit.

    Each step takes the gradient of the objective with respect to the features once, through the whole recommender and
    its item graph (:class:`~mmgraph_robust.attacks.GraphProblem`), and hands it on through the encoder in batches:
    :math:`\nabla_{z_i} = J_{enc}(z_i)^\top \nabla_{x_i}`. Beside the content and the best change so far, memory holds
    one batch of the encoder. The best content of all steps is kept, the clean one included.

    Args:
        encoder: From content ``[n, ...]`` to features ``[n, dim]``, differentiable, each row by itself; it is used in
            evaluation mode and left as it was.
        steps: Number of steps.
        step_size: Size of a step as a part of the budget (default: ``2.5 / steps``).
        objective: What is maximised.
        batch_size: Items that the encoder sees at a time.
    """

    def __init__(
        self,
        encoder: torch.nn.Module,
        steps: int = 20,
        step_size: float | None = None,
        objective: str = "recall",
        batch_size: int = 64,
    ) -> None:
        self._check_counts(steps=steps, batch_size=batch_size)
        self._check(step_size=(step_size is None or step_size > 0, "> 0", step_size))
        self.encoder = encoder
        self.steps = steps
        self.step_size = step_size
        self.objective = check_objective(objective)
        self.batch_size = batch_size

    def __call__(
        self,
        model: Recommender,
        data: HeteroData,
        content: Tensor,
        threat: ThreatModel,
        *,
        seed: int = 0,
        progress: bool = False,
    ) -> ContentResult:
        """Attacks `model` through the encoder.

        Args:
            model: The victim.
            data: The clean data.
            content: ``[num_items, ...]`` floating point content, such as images in 0 to 1 or token embeddings.
            threat: What is allowed; its one modality is the encoder's, and budget and box are those of the content:
                ``ThreatModel(["visual"], 8 / 255, norm="linf", relative=False, box={"visual": (0, 1)})``.
            seed: Seed of the objective's randomness.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: If the threat or the encoder does not fit, or the box excludes clean content.
            DataError: If the content does not fit the items, or the encoder's output the modality.
            BudgetError: If the budget was overrun.
            NonFiniteError: If content, features or gradients are not finite.
        """
        started = time.perf_counter()
        modality = _check(data, content, threat)
        flat = content.flatten(1)
        bounds = threat.bounds({modality: flat}).get(modality)
        # What follows is told of features, which the box is not meant for.
        threat = replace(threat, box=None)
        with frozen(self.encoder), frozen(model):
            clean = self._encode(content, features_of(data)[modality])
            flags = self._flags(content, clean, features_of(data)[modality])
            base = with_features(data, {modality: clean})
            plain = Problem.from_data(model, base, threat, self.objective, seed)
            plain.settle()
            problem = GraphProblem(plain, steps=self.steps)
            items = problem.allowed.flatten().nonzero().flatten().cpu()
            best, clean_value = self._search(problem, content, clean, items, bounds, flags, progress)
            perturbed = content.clone()
            perturbed[items] = best
            encoded = self._encode(perturbed, clean)
            value = problem.value({modality: (encoded - clean).to(model.device)}, exact=True)
        change = perturbed.flatten(1).double() - flat.double()
        if threat.excess(change, threat.radii({modality: flat})[modality]) > _TOLERANCE:
            raise BudgetError(f"'{type(self).__name__}' overran the budget of modality '{modality}'")
        attacked = with_features(base, {modality: encoded})
        if model.knn_k is not None:
            attacked = with_item_graphs(attacked, {m: a.to("cpu") for m, a in problem.graph.item_graphs.items()})
        return ContentResult(
            attacked, perturbed, clean_value, value, flags | problem.flags(), time.perf_counter() - started
        )

    def _search(
        self,
        problem: Problem,
        content: Tensor,
        clean: Tensor,
        items: Tensor,
        bounds: tuple[float, float] | None,
        flags: dict[str, str],
        progress: bool,
    ) -> tuple[Tensor, float]:
        """The best content of the attacked items, and the objective on the clean one."""
        (modality,) = problem.threat.modalities
        size = step_share(self.steps, self.step_size)
        current, features = content[items], clean.clone()
        best, best_value, clean_value = current.clone(), -float("inf"), 0.0
        for step in tqdm(range(self.steps + 1), desc=type(self).__name__, disable=not progress, leave=False):
            value, gradients = problem.value_and_gradient({modality: (features - clean).to(problem.graph.device)})
            if value > best_value:
                best, best_value = current.clone(), value
            if step == 0:
                clean_value = value
            if step == self.steps:
                break
            gradient = gradients[modality].cpu()[items]
            moved = 0
            for a, b in self._batches(gradient):
                where = slice(a, b)
                start = content[items[where]]
                wanted = self._pull_back(current[where], gradient[where])
                moved += int(wanted.flatten(1).any(1).sum())
                current[where] = self._step(problem.threat, modality, start, current[where], wanted, size, bounds)
                features[items[where]] = self._features(current[where]).to(features)
            seen = int(gradient.any(1).sum())
            if step == 0 and moved < seen:
                flags["encoder_gradient"] = (
                    f"the encoder passed no gradient on for {seen - moved} of {seen} items that it matters for "
                    "(rounding or saturation): that the ranking holds may be the attack's blindness"
                )
        return best, clean_value

    def _batches(self, gradient: Tensor) -> Iterator[tuple[int, int]]:
        for a, b in chunks(gradient.size(0), self.batch_size):
            # Items that the objective does not see cost no pass.
            if bool(gradient[a:b].any()):
                yield a, b

    def _step(
        self,
        threat: ThreatModel,
        modality: str,
        start: Tensor,
        current: Tensor,
        gradient: Tensor,
        size: float,
        bounds: tuple[float, float] | None,
    ) -> Tensor:
        clean = start.flatten(1)
        radius = threat.radii({modality: clean})[modality]
        moved = current.flatten(1) + size * radius * threat.steepest(gradient.flatten(1))
        result = threat.apply(clean, threat.project(moved - clean, radius), radius)
        if bounds is not None:
            # Every entry moves towards the clean one, which lies inside: the budget still holds.
            result = result.clamp(*bounds)
        return result.view_as(start)

    def _pull_back(self, content: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of the objective with respect to one batch of content."""
        leaf = content.to(_device(self.encoder)).requires_grad_()
        with torch.enable_grad():
            out = self.encoder(leaf)
        found: Tensor | None = None
        if out.requires_grad:
            (found,) = torch.autograd.grad(out, leaf, gradient.to(out), allow_unused=True)
        if found is None:
            raise ConfigError(
                f"'{type(self.encoder).__name__}' gives features without a gradient to its input: remove 'detach', "
                "'no_grad' or conversions to NumPy, or attack the features themselves"
            )
        if not bool(torch.isfinite(found).all()):
            raise NonFiniteError(f"the gradient through '{type(self.encoder).__name__}' holds NaN or infinite numbers")
        return found.to(content.device)

    def _features(self, content: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = self.encoder(content.to(_device(self.encoder)))
        return features

    def _encode(self, content: Tensor, like: Tensor) -> Tensor:
        """The features of all content, of the shape and on the device of `like`."""
        result = torch.empty_like(like)
        name = type(self.encoder).__name__
        for a, b in chunks(content.size(0), self.batch_size):
            features = self._features(content[a:b])
            expected = (b - a, like.size(1))
            if not isinstance(features, Tensor) or tuple(features.shape) != expected:
                got = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
                raise DataError(
                    f"'{name}' is to give features of shape {list(expected)}, those of the data (got {got})"
                )
            if not bool(torch.isfinite(features).all()):
                raise NonFiniteError(f"'{name}' gives NaN or infinite features, first among the items {a} to {b - 1}")
            result[a:b] = features.to(result)
        return result

    def _flags(self, content: Tensor, clean: Tensor, stored: Tensor) -> dict[str, str]:
        flags = {}
        away = float((clean - stored).norm() / stored.norm().clamp(min=1e-12))
        if away > 1e-3:
            flags["other_features"] = (
                f"the encoder's features differ from the stored ones by {away:.1%}: what is called clean here is what "
                "the encoder gives"
            )
        first = content[: self.batch_size]
        if not torch.equal(self._features(first), self._features(first)):
            flags["stochastic_encoder"] = "the encoder gives other features for the same content: it is random"
        return flags


def _check(data: HeteroData, content: Tensor, threat: ThreatModel) -> str:
    if len(threat.modalities) != 1 or threat.scope != "item":
        raise ConfigError(
            "an attack through an encoder expects a threat with its one modality and scope='item' "
            f"(got {list(threat.modalities)} and scope='{threat.scope}')"
        )
    (modality,) = threat.modalities
    rows = features_of(data, [modality])[modality].size(0)
    if content.dim() < 2 or content.size(0) != rows:
        raise DataError(f"'content' expects one entry for each of the {rows} items (got shape {list(content.shape)})")
    if not content.is_floating_point():
        raise DataError(
            f"'content' expects floating point numbers (got {content.dtype}): divide pixels by 255, or hand in the "
            "embeddings of tokens and an encoder that begins after them"
        )
    if not bool(torch.isfinite(content).all()):
        raise NonFiniteError("'content' holds NaN or infinite numbers")
    return modality


def _device(module: torch.nn.Module) -> torch.device:
    return next((p.device for p in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
