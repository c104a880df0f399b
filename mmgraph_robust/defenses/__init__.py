"""Defenses: plugged into training by hooks, never into a model; and two that are a model around a model."""

from mmgraph_robust.defenses.adversarial_training import AdversarialTraining
from mmgraph_robust.defenses.apr import APR
from mmgraph_robust.defenses.balancing import ModalityBalancing
from mmgraph_robust.defenses.base import Defense, Step
from mmgraph_robust.defenses.ckd import CKD
from mmgraph_robust.defenses.feature_noise import FeatureNoise
from mmgraph_robust.defenses.free_adversarial_training import FreeAdversarialTraining
from mmgraph_robust.defenses.gradient_penalty import GradientPenalty
from mmgraph_robust.defenses.listwise_adversarial_training import ListwiseAdversarialTraining
from mmgraph_robust.defenses.mirror_gradient import MirrorGradient
from mmgraph_robust.defenses.modality_dropout import ModalityDropout
from mmgraph_robust.defenses.ogm_ge import OGMGE
from mmgraph_robust.defenses.projection_decay import ProjectionDecay
from mmgraph_robust.defenses.smoothing import Smoothed
from mmgraph_robust.defenses.trusted_item_graph import TrustedItemGraph
from mmgraph_robust.defenses.wrapped import WrappedModel

__all__ = [
    "APR",
    "CKD",
    "OGMGE",
    "AdversarialTraining",
    "Defense",
    "FeatureNoise",
    "FreeAdversarialTraining",
    "GradientPenalty",
    "ListwiseAdversarialTraining",
    "MirrorGradient",
    "ModalityBalancing",
    "ModalityDropout",
    "ProjectionDecay",
    "Smoothed",
    "Step",
    "TrustedItemGraph",
    "WrappedModel",
]
