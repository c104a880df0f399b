"""Attacks on item features, and the threat model that bounds them."""

from mmgraph_robust.attacks.apgd import APGD
from mmgraph_robust.attacks.base import Attack, AttackResult
from mmgraph_robust.attacks.encoder import ContentPGD, ContentResult
from mmgraph_robust.attacks.goals import Goal, Hide, Promote, Untargeted, pick_items
from mmgraph_robust.attacks.item_graph import GraphProblem, GraphRelaxation
from mmgraph_robust.attacks.mim import MIM
from mmgraph_robust.attacks.minimal import MinimalBudget
from mmgraph_robust.attacks.neighbour_swap import NeighbourSwap
from mmgraph_robust.attacks.noise import Noise
from mmgraph_robust.attacks.objectives import OBJECTIVES, Objective
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.problem import Problem
from mmgraph_robust.attacks.single_step import SingleStep
from mmgraph_robust.attacks.spsa import SPSA
from mmgraph_robust.attacks.square import Square
from mmgraph_robust.attacks.suite import Suite, suite
from mmgraph_robust.attacks.threat import ThreatModel, expand, modality_sets
from mmgraph_robust.attacks.transfer import Transfer
from mmgraph_robust.attacks.universal import Universal
from mmgraph_robust.attacks.worst import attack_worst

__all__ = [
    "APGD",
    "MIM",
    "OBJECTIVES",
    "PGD",
    "SPSA",
    "Attack",
    "AttackResult",
    "ContentPGD",
    "ContentResult",
    "Goal",
    "GraphProblem",
    "GraphRelaxation",
    "Hide",
    "MinimalBudget",
    "NeighbourSwap",
    "Noise",
    "Objective",
    "Problem",
    "Promote",
    "SingleStep",
    "Square",
    "Suite",
    "ThreatModel",
    "Transfer",
    "Universal",
    "Untargeted",
    "attack_worst",
    "expand",
    "modality_sets",
    "pick_items",
    "suite",
]
