"""A made-up shop whose right answers are known."""

from __future__ import annotations

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
    interactions_per_user: float = 14.0,
    num_tastes: int = 12,
    informativeness: Mapping[str, float] | None = None,
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
        x_i = a\, W t_i + \sqrt{1 - a^2}\, n_i \quad\text{(sturdy)}, \qquad
        x_i = 0.06\,(a\, W t_i + \sqrt{1 - a^2}\, n_i) + b_i \quad\text{(sensitive)}

    with :math:`a` its informativeness. In the *sensitive* modality the telling part is small beside a large
    background :math:`b` that says nothing and is orthogonal to it: a model that reads the modality well must amplify
    small differences, and a change of 5 % of a row's norm overturns them. In a sturdy modality the same change is small
    beside the signal.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        modalities: Width of the features per modality (default: visual and textual, 24 each).
        interactions_per_user: Mean number of interactions.
        num_tastes: Number of taste centres.
        informativeness: Per modality, the share :math:`a` in 0 to 1 (default: 0.95 for the sensitive one, 0.8 for others).
        sensitive: The modality that is sensitive by construction (default: the first).
        popularity_exponent: Exponent of the power law.
        val: Share of the validation split.
        test: Share of the test split.
        seed: Seed of everything.

    Returns:
        The data set; ``data.sensitive_modality`` names the right answer (``""`` without modalities).

    Raises:
        ConfigError: If a size or a name does not fit.
    """
    dims = {"visual": 24, "textual": 24} if modalities is None else dict(modalities)
    for name, value in (("num_users", num_users), ("num_items", num_items), ("num_tastes", num_tastes)):
        if value < 1:
            raise ConfigError(f"'synthetic' expects {name} >= 1 (got {value})")
    if not 0 < interactions_per_user <= num_items:
        raise ConfigError(
            f"'synthetic' expects interactions_per_user in 1 to {num_items} (got {interactions_per_user})"
        )
    if sensitive is None:
        sensitive = next(iter(dims), "")
    for name in [*([sensitive] if sensitive else []), *(informativeness or {})]:
        if name not in dims:
            raise ConfigError(unknown_name("modality", name, dims))
    taste_dim = 8
    for name, dim in dims.items():
        if dim < 2:
            raise ConfigError(f"'synthetic' expects at least 2 columns for modality '{name}' (got {dim})")
    world = child_generator(seed, "synthetic", "world")
    centres = _unit(torch.randn(num_tastes, taste_dim, generator=world))
    item_centre = torch.randint(num_tastes, (num_items,), generator=world)
    items = _unit(centres[item_centre] + 0.35 * torch.randn(num_items, taste_dim, generator=world))
    liked = torch.randint(num_tastes, (num_users, 2), generator=world)
    users = _unit(centres[liked].mean(1) + 0.1 * torch.randn(num_users, taste_dim, generator=world))
    rank = torch.randperm(num_items, generator=world) + 1.0
    popularity = -popularity_exponent * rank.log()
    edge_index = _interactions(users, items, popularity, interactions_per_user, world)
    features: Features = {}
    for name, dim in dims.items():
        share = (informativeness or {}).get(name, 0.95 if name == sensitive else 0.8)
        if not 0 <= share <= 1:
            raise ConfigError(f"'synthetic' expects informativeness in 0 to 1 (got {share} for '{name}')")
        features[name] = _features(items, dim, share, name == sensitive, child_generator(seed, "synthetic", name))
    label = torch.zeros(edge_index.size(1), dtype=torch.long)
    data = build(edge_index, label, features, num_users=num_users, num_items=num_items, name="synthetic")
    data.sensitive_modality = sensitive
    return validate(random_split(data, val=val, test=test, seed=seed))


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


def _features(items: Tensor, dim: int, share: float, sensitive: bool, generator: torch.Generator) -> Tensor:
    # An orthonormal basis: half of the columns' space (at most as wide as the tastes) tells, the rest is background.
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
    width = min(items.size(1), dim // 2)
    mixing = torch.randn(items.size(1), width, generator=generator) / items.size(1) ** 0.5
    signal = items @ mixing
    signal = signal / signal.std().clamp(min=1e-12)
    noise = torch.randn(items.size(0), width, generator=generator)
    telling = (share * signal + (1 - share**2) ** 0.5 * noise) @ basis[:, :width].t()
    if not sensitive:
        return telling
    background = torch.randn(items.size(0), dim - width, generator=generator) @ basis[:, width:].t()
    return 0.06 * telling + background


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)
