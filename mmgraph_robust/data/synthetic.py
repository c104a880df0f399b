"""A made-up shop whose right answers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import build
from mmgraph_robust.data.split import random_split
from mmgraph_robust.data.validate import validate
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.typing import Features
from mmgraph_robust.utils import child_generator, chunks

_BLOCK_ELEMENTS = 1 << 23


def synthetic(
    *,
    num_users: int = 600,
    num_items: int = 400,
    modalities: Mapping[str, int] | None = None,
    interactions_per_user: float = 8.0,
    num_tastes: int = 12,
    latent_dim: int = 8,
    informativeness: Mapping[str, float] | None = None,
    fragility: Mapping[str, float] | None = None,
    sensitive: str | None = None,
    popularity_exponent: float = 0.6,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> HeteroData:
    r"""A data set with planted structure.

    Every item has a taste vector near one of `num_tastes` centres, every user prefers one or two of them, popularity
    follows a power law, and users choose by taste and popularity without replacement. A modality shows the item's
    taste through a random linear map:

    .. math::
        x_i = a\, W t_i + \sqrt{1 - a^2}\, n_i + \frac{\sqrt{1 - (1 - f)^2}}{1 - f}\; b_i

    with :math:`a` its informativeness and :math:`f` its fragility. In a *fragile* modality the telling part is small
    beside a large background :math:`b` that says nothing and is orthogonal to it: a model that reads the modality well
    must see small differences, and a change of 5 % of a row's norm overturns them. In a sturdy modality
    (:math:`f = 0`) the same change is small beside the signal.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        modalities: Width of the features per modality (default: visual and textual, 24 each).
        interactions_per_user: Mean number of interactions; every user has 3 at least, so that below 6 it is exceeded.
        num_tastes: Number of taste centres.
        latent_dim: Width of the taste vectors.
        informativeness: Per modality, the share :math:`a` in 0 to 1 (default: 0.95 for the sensitive one, 0.8 for
            others).
        fragility: Per modality, :math:`f` from 0 to below 1 (default: 0.9 for the sensitive one, 0 for others).
        sensitive: The modality that is sensitive by construction (default: the one of the highest given `fragility`,
            else the first).
        popularity_exponent: Exponent of the power law.
        val: Share of the validation split.
        test: Share of the test split.
        seed: Seed of everything.

    Returns:
        The data set; ``data.sensitive_modality`` names the right answer (``""`` without modalities), and
        ``data.planted`` holds ``informativeness`` and ``fragility`` per modality.

    Raises:
        ConfigError: If a size or a name does not fit.
    """
    dims = {"visual": 24, "textual": 24} if modalities is None else dict(modalities)
    sizes = {"num_users": num_users, "num_items": num_items, "num_tastes": num_tastes, "latent_dim": latent_dim}
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"'synthetic' expects {name} >= 1 (got {value})")
    if not 0 < interactions_per_user <= num_items:
        raise ConfigError(
            f"'synthetic' expects interactions_per_user above 0, at most {num_items} (got {interactions_per_user})"
        )
    if not math.isfinite(popularity_exponent):
        raise ConfigError(f"'synthetic' expects a finite popularity_exponent (got {popularity_exponent})")
    for name in [*([] if sensitive is None else [sensitive]), *(informativeness or {}), *(fragility or {})]:
        if name not in dims:
            raise ConfigError(unknown_name("modality", name, dims))
    if sensitive is None:
        # max() returns the first of equals, so without a fragility it is the first modality.
        sensitive = max(dims, key=lambda name: (fragility or {}).get(name, 0.0), default="")
    planted = {
        "informativeness": _shares("informativeness", dims, informativeness, sensitive, 0.95, 0.8),
        "fragility": _shares("fragility", dims, fragility, sensitive, 0.9, 0.0),
    }
    for name, dim in dims.items():
        if dim < 2:
            raise ConfigError(f"'synthetic' expects at least 2 columns for modality '{name}' (got {dim})")
    world = child_generator(seed, "synthetic", "world")
    users, items = _tastes(num_users, num_items, num_tastes, latent_dim, world)
    rank = torch.randperm(num_items, generator=world) + 1.0
    popularity = -popularity_exponent * rank.log()
    edge_index = _interactions(users, items, popularity, interactions_per_user, world)
    features: Features = {}
    for name, dim in dims.items():
        generator = child_generator(seed, "synthetic", name)
        features[name] = _features(items, dim, planted["informativeness"][name], planted["fragility"][name], generator)
    label = torch.zeros(edge_index.size(1), dtype=torch.long)
    data = build(edge_index, label, features, num_users=num_users, num_items=num_items, name="synthetic")
    data.sensitive_modality = sensitive
    data.planted = planted
    return validate(random_split(data, val=val, test=test, seed=seed))


def _tastes(
    num_users: int, num_items: int, num_tastes: int, latent_dim: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    centres = _unit(torch.randn(num_tastes, latent_dim, generator=generator))
    item_centre = torch.randint(num_tastes, (num_items,), generator=generator)
    items = _unit(centres[item_centre] + 0.35 * torch.randn(num_items, latent_dim, generator=generator))
    liked = torch.randint(num_tastes, (num_users, 2), generator=generator)
    users = _unit(centres[liked].mean(1) + 0.1 * torch.randn(num_users, latent_dim, generator=generator))
    return users, items


def _shares(
    what: str, dims: Mapping[str, int], given: Mapping[str, float] | None, sensitive: str, high: float, low: float
) -> dict[str, float]:
    shares = {name: (given or {}).get(name, high if name == sensitive else low) for name in dims}
    for name, share in shares.items():
        if not 0 <= share <= 1 or (what == "fragility" and share == 1):
            raise ConfigError(f"'synthetic' expects {what} in 0 to 1 (got {share} for '{name}')")
    return shares


def _interactions(users: Tensor, items: Tensor, popularity: Tensor, mean: float, generator: torch.Generator) -> Tensor:
    num_users, num_items = users.size(0), items.size(0)
    # From about half to one and a half times the mean, at least 3, so that a split is possible.
    count = (mean * (0.5 + torch.rand(num_users, generator=generator))).round().long().clamp(min=3, max=num_items)
    most = int(count.max())
    pairs = []
    for start, stop in chunks(num_users, max(1, _BLOCK_ELEMENTS // num_items)):
        utility = 7.0 * users[start:stop] @ items.t() + popularity
        # The largest of utility plus Gumbel noise are a sample without replacement from the softmax.
        noise = torch.rand(utility.shape, generator=generator).clamp(min=1e-20)
        chosen = (utility - (-noise.log()).log()).topk(most, dim=1).indices
        kept = torch.arange(most) < count[start:stop, None]
        user = torch.arange(start, stop)[:, None].expand_as(chosen)
        pairs.append(torch.stack([user[kept], chosen[kept]]))
    return torch.cat(pairs, dim=1)


def _features(items: Tensor, dim: int, share: float, fragility: float, generator: torch.Generator) -> Tensor:
    # An orthonormal basis: half of the columns' space (at most as wide as the tastes) tells, the rest is background.
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
    width = min(items.size(1), dim // 2)
    mixing = torch.randn(items.size(1), width, generator=generator) / items.size(1) ** 0.5
    signal = items @ mixing
    signal = signal / signal.std().clamp(min=1e-12)
    noise = torch.randn(items.size(0), width, generator=generator)
    telling = (share * signal + math.sqrt(1 - share**2) * noise) @ basis[:, :width].t()
    background = torch.randn(items.size(0), dim - width, generator=generator) @ basis[:, width:].t()
    # Scaled so that the telling part has one size, however small beside the background: models find it equally fast.
    x: Tensor = telling + math.sqrt(1 - (1 - fragility) ** 2) / (1 - fragility) * background
    return x


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = torch.nn.functional.normalize(x, dim=1)
    return unit
