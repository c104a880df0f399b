"""What training leaves to chance, drawn from an explicit generator on the CPU: the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from mmgraph_robust.errors import ConfigError


def seeded_dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """`x` with a share `rate` of its entries set to 0 and the others scaled up; as it is without a generator.

    Raises:
        ConfigError: If `rate` is no share below 1.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"'rate' expects a share from 0 to below 1 (got {rate})")
    if generator is None or rate == 0:
        return x
    kept = torch.rand(x.shape, generator=generator) >= rate
    return x * (kept.to(x.device, x.dtype) / (1 - rate))


def seeded_gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    r"""The relaxed choice per row of `"Categorical Reparameterization with Gumbel-Softmax"
    <https://arxiv.org/abs/1611.01144>`_ (Jang et al., ICLR 2017), :math:`\mathrm{softmax}((x + g) / \tau)` with
    :math:`g` from the standard Gumbel distribution; :math:`g = 0` without a generator.
    """
    if generator is not None:
        noise = -torch.empty(logits.shape).exponential_(generator=generator).log()
        logits = logits + noise.to(logits.device, logits.dtype)
    return torch.softmax(logits / temperature, dim=1)
