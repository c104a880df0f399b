"""Evaluation: clean ranking, robustness, diagnosis, and certificates."""

from mmgraph_robust.evaluation.certificates import Certificate, certified_recall, certify
from mmgraph_robust.evaluation.diagnosis import (
    diagnose,
    flip_rate,
    gradient_health,
    hit_groups,
    modality_shares,
    summarize_budgets,
)
from mmgraph_robust.evaluation.ranking import Evaluator, embed, evaluate
from mmgraph_robust.evaluation.robustness import RobustnessEvaluator, find_sensitive, graph_policies, robustness
from mmgraph_robust.evaluation.smoothing import SmoothedCertificate, smoothed_recall

__all__ = [
    "Certificate",
    "Evaluator",
    "RobustnessEvaluator",
    "SmoothedCertificate",
    "certified_recall",
    "certify",
    "diagnose",
    "embed",
    "evaluate",
    "find_sensitive",
    "flip_rate",
    "gradient_health",
    "graph_policies",
    "hit_groups",
    "modality_shares",
    "robustness",
    "smoothed_recall",
    "summarize_budgets",
]
