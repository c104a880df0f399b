"""Attacks on item features, and the threat model that bounds them."""

from mmgraph_robust.attacks.base import Attack, AttackResult, Problem
from mmgraph_robust.attacks.encoder import ContentPGD, ContentResult
from mmgraph_robust.attacks.item_graph import GraphProblem, GraphRelaxation
from mmgraph_robust.attacks.neighbour_swap import NeighbourSwap
from mmgraph_robust.attacks.noise import Noise
from mmgraph_robust.attacks.objectives import OBJECTIVES, Objective
from mmgraph_robust.attacks.pgd import PGD
from mmgraph_robust.attacks.single_step import SingleStep
from mmgraph_robust.attacks.threat import ThreatModel

__all__ = [
    "OBJECTIVES",
    "PGD",
    "Attack",
    "AttackResult",
    "ContentPGD",
    "ContentResult",
    "GraphProblem",
    "GraphRelaxation",
    "NeighbourSwap",
    "Noise",
    "Objective",
    "Problem",
    "SingleStep",
    "ThreatModel",
]
