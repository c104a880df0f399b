"""Defenses: plugged into training by hooks, never into a model; and one that wraps a trained model."""

from mmgraph_robust.defenses.adversarial_training import AdversarialTraining
from mmgraph_robust.defenses.balancing import ModalityBalancing
from mmgraph_robust.defenses.base import Defense, Step

__all__ = [
    "AdversarialTraining",
    "Defense",
    "ModalityBalancing",
    "Step",
]
