"""The modality whose attack harms most."""

from __future__ import annotations

from torch_geometric.data import HeteroData

from mmgraph_robust.attacks.base import Attack, AttackResult
from mmgraph_robust.attacks.threat import ThreatModel, expand
from mmgraph_robust.models import Recommender


def attack_worst(
    attack: Attack, model: Recommender, data: HeteroData, threat: ThreatModel, *, seed: int = 0, progress: bool = False
) -> tuple[ThreatModel, AttackResult]:
    """Attacks each modality of a threat model alone, and keeps the one that serves the attacker best.

    An attacker who may touch one modality only chooses it after trying all.

    Args:
        attack: The attack.
        model: The victim.
        data: The clean data.
        threat: What is allowed, with all modalities that may be chosen.
        seed: Seed of the attack.
        progress: Whether to show progress bars.

    Returns:
        The threat model with its one modality, and what the attack did there.
    """
    sign = 1.0 if threat.goal.rises else -1.0
    runs = [(one, attack(model, data, one, seed=seed, progress=progress)) for one in expand(threat, ["each"])]
    return max(runs, key=lambda run: sign * next(iter(run[1].after.values())))
