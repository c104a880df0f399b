"""Fixed weights of the modalities in a blend of item graphs."""

from __future__ import annotations

from collections.abc import Mapping

from mmgraph_robust.errors import ConfigError, unknown_name

_PAPER = {"visual": 0.1, "textual": 0.9}


def modality_weights(
    owner: str, modalities: tuple[str, ...], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """One weight per modality, in their order.

    Args:
        owner: Who asks; errors name it.
        modalities: The modalities.
        weights: Weight by modality (default: FREEDOM's 0.1 for ``visual`` and 0.9 for ``textual`` where the modalities
            are these two, else equal weights that sum to 1).

    Raises:
        ConfigError: If a modality lacks a weight or is unknown, or a weight is negative or not finite.
    """
    if weights is None:
        equal = dict.fromkeys(modalities, 1.0 / max(len(modalities), 1))
        weights = _PAPER if set(modalities) == set(_PAPER) else equal
    for name in sorted(set(weights) ^ set(modalities)):
        raise ConfigError(
            f"'{owner}': weights expects one for each modality: {unknown_name('modality', name, modalities)}"
        )
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"'{owner}' expects finite weights >= 0 (got {weight} for '{name}')")
    return {name: float(weights[name]) for name in modalities}
