"""Evaluation: clean ranking and robustness."""

from mmgraph_robust.evaluation.ranking import Evaluator, embed, evaluate

__all__ = ["Evaluator", "embed", "evaluate"]
