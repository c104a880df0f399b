"""Evaluation: clean ranking, robustness, and which modality is sensitive."""

from mmgraph_robust.evaluation.ranking import Evaluator, embed, evaluate
from mmgraph_robust.evaluation.robustness import find_sensitive, robustness

__all__ = ["Evaluator", "embed", "evaluate", "find_sensitive", "robustness"]
