"""Ranking metrics and robustness measures."""

from mmgraph_robust.metrics.exposure import exposure
from mmgraph_robust.metrics.margins import score_margins
from mmgraph_robust.metrics.ranking import METRICS, cutoff_of, hits, rank_items, ranking_metrics

__all__ = ["METRICS", "cutoff_of", "exposure", "hits", "rank_items", "ranking_metrics", "score_margins"]
