"""Public conformance checks: what a model of one's own has to keep."""

from mmgraph_robust.testing.models import ConformanceError, check_model

__all__ = ["ConformanceError", "check_model"]
